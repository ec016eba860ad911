#!/usr/bin/env python3
"""Serves a mailbox: answers each request with the same text in capitals.

    python3 upper.py /run/ipc upper

A client opens control/mailboxes/upper/rpc, writes a request, and reads the reply.
"""

import errno
import os
import sys

# No request is longer.
LONGEST = 1 << 20


def answer(request):
    return request.upper()


def main(mount, mailbox):
    serve = os.open(f"{mount}/control/mailboxes/{mailbox}/serve", os.O_RDWR)
    while True:
        request = os.read(serve, LONGEST)
        try:
            os.write(serve, answer(request))
        except OSError as error:
            # The client has left. The next read returns the next request.
            if error.errno != errno.ECANCELED:
                raise


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: upper.py MOUNT MAILBOX")
    main(*sys.argv[1:])
