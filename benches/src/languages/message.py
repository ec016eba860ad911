# Sends and receives COUNT messages of SIZE bytes by way of PATH, as a file. Prints the microseconds that one takes.
import os, sys, time

kind, path, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
message = b"m" * size
# A FIFO is lost when nobody has it open, and has no end while somebody has.
held = os.open(path, os.O_RDWR) if kind == "fifo" else None


def one():
    with open(path, "wb") as file:
        file.write(message)
    with open(path, "rb", buffering=0 if kind == "fifo" else -1) as file:
        got = file.read(size) if kind == "fifo" else file.read()
    assert got == message


def many(count):
    start = time.monotonic()
    for _ in range(count):
        one()
    return (time.monotonic() - start) * 1e6 / count


many(count // 10 + 1)
print(many(count))
