// Disk errors on demand, preloaded into a node: while the file $FAULT_SWITCH.write exists, writes
// to files below $FAULT_DIR fail with EIO; while $FAULT_SWITCH.sync exists, syncs do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_on(const char *kind) {
    const char *name = getenv("FAULT_SWITCH");
    char path[512];
    if (!name) return 0;
    snprintf(path, sizeof path, "%s.%s", name, kind);
    return access(path, F_OK) == 0;
}

static int is_ours(int fd) {
    const char *folder = getenv("FAULT_DIR");
    char link[64], path[512];
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int fails(int fd, const char *kind) {
    int saved = errno;
    int yes = is_on(kind) && is_ours(fd);
    errno = yes ? EIO : saved;
    return yes;
}

// The function that this one stands before.
#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *from, size_t count) {
    REAL(write);
    return fails(fd, "write") ? -1 : real(fd, from, count);
}
ssize_t writev(int fd, const struct iovec *from, int count) {
    REAL(writev);
    return fails(fd, "write") ? -1 : real(fd, from, count);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off_t at) {
    REAL(pwrite64);
    return fails(fd, "write") ? -1 : real(fd, from, count, at);
}
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    return pwrite64(fd, from, count, at);
}
int fsync(int fd) {
    REAL(fsync);
    return fails(fd, "sync") ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    return fails(fd, "sync") ? -1 : real(fd);
}
int sync_file_range(int fd, off_t from, off_t count, unsigned flags) {
    REAL(sync_file_range);
    return fails(fd, "sync") ? -1 : real(fd, from, count, flags);
}
