// Reads through io_uring, as programs that use liburing do, by bare system calls: one read at a time.
//
//     ring FILE MODE OFFSET SIZE COUNT [async|sqpoll]
//
// MODE: r (O_RDONLY) or rw (O_RDWR). OFFSET: a number; "position" for the file's own, "on" to go on where the read before
// ended. Prints a line for each read: its result, and what it got.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void check(long result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(errno == ENOSYS || errno == EPERM ? 77 : 1);
    }
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    const char *how = argc > 6 ? argv[6] : "";
    size_t size = strtoul(argv[4], 0, 10);
    int count = atoi(argv[5]);
    struct io_uring_params params = {0};
    if (!strcmp(how, "sqpoll")) params.flags = IORING_SETUP_SQPOLL, params.sq_thread_idle = 1000;
    int ring = syscall(__NR_io_uring_setup, 4, &params);
    check(ring, "io_uring_setup");
    size_t sq_size = params.sq_off.array + params.sq_entries * 4;
    size_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    char *sq = mmap(0, sq_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    char *cq = mmap(0, cq_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
    struct io_uring_sqe *entries =
        mmap(0, params.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || entries == MAP_FAILED) return 1;
    int file = open(argv[1], strcmp(argv[2], "rw") ? O_RDONLY : O_RDWR);
    check(file, "open");
    char *buffer = malloc(size);
    unsigned long end = 0;
    for (int i = 0; i < count; i++) {
        unsigned *tail = (unsigned *)(sq + params.sq_off.tail), mask = *(unsigned *)(sq + params.sq_off.ring_mask);
        unsigned at = *tail & mask;
        struct io_uring_sqe *entry = &entries[at];
        memset(entry, 0, sizeof *entry);
        entry->opcode = IORING_OP_READ;
        entry->fd = file;
        entry->addr = (unsigned long)buffer;
        entry->len = size;
        if (!strcmp(argv[3], "position")) entry->off = -1;
        else if (!strcmp(argv[3], "on")) entry->off = end;
        else entry->off = strtoul(argv[3], 0, 10);
        if (!strcmp(how, "async")) entry->flags = IOSQE_ASYNC;
        ((unsigned *)(sq + params.sq_off.array))[at] = at;
        __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        unsigned flags = IORING_ENTER_GETEVENTS;
        if (*(volatile unsigned *)(sq + params.sq_off.flags) & IORING_SQ_NEED_WAKEUP) flags |= IORING_ENTER_SQ_WAKEUP;
        check(syscall(__NR_io_uring_enter, ring, 1, 1, flags, 0, 0), "io_uring_enter");
        unsigned *head = (unsigned *)(cq + params.cq_off.head);
        unsigned cq_mask = *(unsigned *)(cq + params.cq_off.ring_mask);
        struct io_uring_cqe *done = (struct io_uring_cqe *)(cq + params.cq_off.cqes) + (*head & cq_mask);
        int result = done->res;
        __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
        printf("%d ", result);
        if (result > 0) {
            // Of a long one the length tells enough.
            fwrite(buffer, 1, result > 100 ? 0 : result, stdout);
            end += result;
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
