/* A bad disk, preloaded into a process (LD_PRELOAD): while the file FAULT_ARMED exists,
 * each FAULT_CALL ("write" or "sync") on a file whose path ends in FAULT_FILE fails with
 * the error number FAULT_ERRNO. A write that fails for lack of space writes half of its
 * bytes first. Each failure adds a byte to the file FAULT_COUNT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_hit(const char *call, int fd) {
    const char *armed = getenv("FAULT_ARMED"), *wanted = getenv("FAULT_CALL");
    const char *file = getenv("FAULT_FILE"), *count = getenv("FAULT_COUNT");
    if (!armed || !wanted || !file || strcmp(wanted, call) != 0) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t suffix = strlen(file);
    if (length < (ssize_t)suffix) return 0;
    path[length] = 0;
    if (strcmp(path + length - suffix, file) != 0 || access(armed, F_OK) != 0) return 0;
    int log = open(count, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) {
        ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        if (real(log, "x", 1) < 0) abort();
        close(log);
    }
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (!is_hit("write", fd)) return real(fd, bytes, length);
    int error = errno;
    if (error == ENOSPC && length > 1 && real(fd, bytes, length / 2) < 0) abort();
    errno = error;
    return -1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite64");
    if (!is_hit("write", fd)) return real(fd, bytes, length, offset);
    return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    return is_hit("sync", fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    return is_hit("sync", fd) ? -1 : real(fd);
}
