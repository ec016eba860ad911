"""client.py API MAILBOX receives one message and prints it; with a FILE behind, it sends that as one message.

Nothing but Python's own file objects and `os`.
"""

import asyncio
import os
import pathlib
import select
import sys


def open_read(path):
    with open(path, "rb") as file:
        return file.read()


def open_read_text(path):
    with open(path) as file:
        return file.read().encode()


def open_read_unbuffered(path):
    with open(path, "rb", buffering=0) as file:
        return file.read()


def readline(path):
    with open(path) as file:
        return file.readline().encode()


def lines(path):
    with open(path) as file:
        return "".join(line for line in file).encode()


def os_read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 2 << 20)
    finally:
        os.close(fd)


def os_pread(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, 2 << 20, 0)
    finally:
        os.close(fd)


def pathlib_bytes(path):
    return pathlib.Path(path).read_bytes()


def pathlib_text(path):
    return pathlib.Path(path).read_text().encode()


def stream(path):
    with open(path, "r+b", buffering=0) as file:
        return file.read(2 << 20)


def asyncio_reader(path):
    async def receive():
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        loop = asyncio.get_running_loop()
        message = loop.create_future()

        def readable():
            loop.remove_reader(fd)
            try:
                message.set_result(os.read(fd, 2 << 20))
            except OSError as error:
                message.set_exception(error)

        loop.add_reader(fd, readable)
        try:
            return await message
        finally:
            os.close(fd)

    return asyncio.run(receive())


def asyncio_thread(path):
    return asyncio.run(asyncio.to_thread(open_read, path))


def select_read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        select.select([fd], [], [])
        return os.read(fd, 2 << 20)
    finally:
        os.close(fd)


def write_text(path, text):
    with open(path, "w") as file:
        file.write(text)


def write_pieces(path, text):
    with open(path, "w") as file:
        for at in range(0, len(text), 1000):
            file.write(text[at : at + 1000])


def print_to(path, text):
    with open(path, "a") as file:
        print(text, end="", file=file)


def write_bytes(path, text):
    with open(path, "wb") as file:
        file.write(text.encode())


def write_unbuffered(path, text):
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())


def write_stream(path, text):
    with open(path, "r+b", buffering=0) as file:
        file.write(text.encode())


def os_write(path, text):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)


def pathlib_write(path, text):
    pathlib.Path(path).write_text(text)


def main():
    api, path = globals()[sys.argv[1]], sys.argv[2]
    if len(sys.argv) > 3:
        with open(sys.argv[3]) as text:
            api(path, text.read())
    else:
        sys.stdout.buffer.write(api(path))


main()
