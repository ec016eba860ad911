"""Asks or answers questions through a segment. The other side may be in any language. See examples/README.md.

    python3 exchange.py ask|answer MOUNTPOINT NAME WORD...
"""
import mmap
import os
import sys

ASKED, ANSWERED = 0, 1  # the numbers of questions and answers, u32 each
QUESTION, ANSWER = slice(64, 2048), slice(2048, 4096)  # the last question and answer, each followed by a zero byte

if len(sys.argv) < 5:
    sys.exit("usage: exchange.py ask|answer MOUNTPOINT NAME WORD...")
role, mountpoint, name, *words = sys.argv[1:]
segment = os.open(f"{mountpoint}/segments/{name}", os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(segment, 4096)
memory = mmap.mmap(segment, 4096)
numbers = memoryview(memory)[:8].cast("I")
notify = open(f"{mountpoint}/control/segments/{name}/notify", "wb", buffering=0)
wait = open(f"{mountpoint}/control/segments/{name}/wait", "rb", buffering=0)


def put(place, text):
    data = text.encode() + b"\0"
    memory[place.start : place.start + len(data)] = data


def text(place):
    return memory[place].split(b"\0")[0].decode()


for word in words:
    if role == "ask":
        put(QUESTION, word)
        numbers[ASKED] += 1
        notify.write(b"\n")
        while numbers[ANSWERED] != numbers[ASKED]:
            wait.read(32)
        print(text(ANSWER))
    else:
        while numbers[ANSWERED] == numbers[ASKED]:
            wait.read(32)
        put(ANSWER, f"{text(QUESTION)} {word}")
        numbers[ANSWERED] = numbers[ASKED]
        notify.write(b"\n")
