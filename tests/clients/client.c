/* client API MAILBOX receives one message and prints it; with a FILE behind, it sends that as one message.
   Nothing but the C library. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENOUGH (2 << 20)

static char buffer[ENOUGH];

static void check(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static FILE *stream(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    check(file != NULL, "fopen");
    return file;
}

static int descriptor(const char *path, int flags) {
    int fd = open(path, flags);
    check(fd >= 0, "open");
    return fd;
}

static void receive(const char *api, const char *path) {
    ssize_t length = 0;
    if (!strcmp(api, "read")) {
        length = read(descriptor(path, O_RDONLY), buffer, ENOUGH);
    } else if (!strcmp(api, "read_small")) {
        int fd = descriptor(path, O_RDONLY);
        ssize_t got;
        while ((got = read(fd, buffer + length, 100)) > 0)
            length += got;
        check(got == 0, "read");
    } else if (!strcmp(api, "pread")) {
        length = pread(descriptor(path, O_RDONLY), buffer, ENOUGH, 0);
    } else if (!strcmp(api, "stream")) {
        length = read(descriptor(path, O_RDWR), buffer, ENOUGH);
    } else if (!strcmp(api, "poll")) {
        struct pollfd one = {.fd = descriptor(path, O_RDONLY | O_NONBLOCK), .events = POLLIN};
        check(poll(&one, 1, -1) == 1 && one.revents == POLLIN, "poll");
        length = read(one.fd, buffer, ENOUGH);
    } else if (!strcmp(api, "fread")) {
        length = fread(buffer, 1, ENOUGH, stream(path, "r"));
    } else if (!strcmp(api, "fgets")) {
        check(fgets(buffer, ENOUGH, stream(path, "r")) != NULL, "fgets");
        length = strlen(buffer);
    } else if (!strcmp(api, "getline")) {
        FILE *file = stream(path, "r");
        char *line = NULL;
        size_t size = 0;
        ssize_t got;
        while ((got = getline(&line, &size, file)) > 0) {
            memcpy(buffer + length, line, got);
            length += got;
        }
    } else if (!strcmp(api, "fgetc")) {
        FILE *file = stream(path, "r");
        for (int byte; (byte = fgetc(file)) != EOF; length++)
            buffer[length] = byte;
    } else {
        check(0, api);
    }
    check(length >= 0, api);
    fwrite(buffer, 1, length, stdout);
}

static void transmit(const char *api, const char *path, size_t length) {
    if (!strcmp(api, "write")) {
        check(write(descriptor(path, O_WRONLY), buffer, length) == (ssize_t)length, "write");
    } else if (!strcmp(api, "append")) {
        check(write(descriptor(path, O_WRONLY | O_APPEND), buffer, length) == (ssize_t)length, "write");
    } else if (!strcmp(api, "stream")) {
        check(write(descriptor(path, O_RDWR), buffer, length) == (ssize_t)length, "write");
    } else if (!strcmp(api, "dprintf")) {
        check(dprintf(descriptor(path, O_WRONLY), "%.*s", (int)length, buffer) == (int)length, "dprintf");
    } else {
        FILE *file = stream(path, !strcmp(api, "fprintf_append") ? "a" : "w");
        static char space[ENOUGH];
        if (!strcmp(api, "setvbuf"))
            check(setvbuf(file, space, _IOFBF, sizeof space) == 0, "setvbuf");
        if (!strcmp(api, "fputc")) {
            for (size_t at = 0; at < length; at++)
                check(fputc(buffer[at], file) != EOF, "fputc");
        } else if (!strcmp(api, "fwrite")) {
            check(fwrite(buffer, 1, length, file) == length, "fwrite");
        } else {
            check(!strncmp(api, "fprintf", 7) || !strcmp(api, "setvbuf"), api);
            fprintf(file, "%.*s", (int)(length / 2), buffer);
            fprintf(file, "%.*s", (int)(length - length / 2), buffer + length / 2);
        }
        check(fclose(file) == 0, "fclose");
    }
}

int main(int count, char **arguments) {
    if (count > 3)
        transmit(arguments[1], arguments[2], fread(buffer, 1, ENOUGH, stream(arguments[3], "r")));
    else
        receive(arguments[1], arguments[2]);
    return 0;
}
