/* Makes clock_gettime(2) of a program that preloads it show a wall clock that is set forward, or back, by the seconds that the
   file SET beside this library has. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *set;

__attribute__((constructor)) static void find(void) {
    Dl_info own;
    char copy[PATH_MAX], path[PATH_MAX + 5];
    if (!dladdr((void *)find, &own)) return;
    strncpy(copy, own.dli_fname, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    snprintf(path, sizeof path, "%s/SET", dirname(copy));
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *at = mmap(NULL, sizeof *set, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED) set = at;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (!result && clock == CLOCK_REALTIME && set) now->tv_sec += *set;
    return result;
}
