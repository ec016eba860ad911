/* Asks or answers questions through a segment. The other side may be in any language. See examples/README.md.
 *
 *     cc -o exchange exchange.c;  exchange ask|answer MOUNTPOINT NAME WORD...
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct board {
    _Atomic unsigned asked, answered;
    char unused[56], question[1984], answer[2048];
};

static void check(int failed, const char *what) {
    if (failed) { perror(what); exit(1); }
}

/* Opens MOUNTPOINT/FOLDER/NAME/FILE. */
static int open_at(char **argv, const char *folder, const char *file, int flags) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s%s", argv[2], folder, argv[3], file);
    int fd = open(path, flags, 0600);
    check(fd < 0, path);
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 5) { fprintf(stderr, "usage: exchange ask|answer MOUNTPOINT NAME WORD...\n"); return 2; }
    int fd = open_at(argv, "segments", "", O_RDWR | O_CREAT);
    check(ftruncate(fd, sizeof(struct board)), "ftruncate");
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(board == MAP_FAILED, "mmap");
    int notify = open_at(argv, "control/segments", "/notify", O_WRONLY);
    int wait = open_at(argv, "control/segments", "/wait", O_RDONLY);
    char count[32];
    for (char **word = argv + 4; *word; word++) {
        if (!strcmp(argv[1], "ask")) {
            snprintf(board->question, sizeof board->question, "%s", *word);
            unsigned number = board->asked + 1;
            atomic_store(&board->asked, number);
            check(write(notify, "\n", 1) < 0, "notify");
            while (atomic_load(&board->answered) != number) check(read(wait, count, sizeof count) < 0, "wait");
            printf("%s\n", board->answer);
        } else {
            while (atomic_load(&board->asked) == board->answered) check(read(wait, count, sizeof count) < 0, "wait");
            snprintf(board->answer, sizeof board->answer, "%s %s", board->question, *word);
            atomic_store(&board->answered, board->asked);
            check(write(notify, "\n", 1) < 0, "notify");
        }
    }
    return 0;
}
