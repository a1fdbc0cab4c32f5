/* A disk that keeps only what was synced.
 *
 * Preloaded into a process, it keeps in FORGET_IMAGE what a power cut would leave of the files
 * under FORGET_ROOT: of each file the content at its last fsync or fdatasync, of each directory
 * the names at its last fsync. Names and contents are kept apart (by inode), so a file whose
 * directory was not synced is gone, and a name that was synced before its file shows the file's
 * older content, or none. sync_file_range counts for nothing, and so does closing.
 *
 *   FORGET_IMAGE/f-INODE   content of a file
 *   FORGET_IMAGE/d-INODE   lines "INODE d|f NAME" of a directory
 *
 * It is stricter than ext4, which keeps the name of a file that was synced, and laxer in one
 * point: of an unsynced write it never keeps a part.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char buffer[1 << 20], old[1 << 20];

/* An inode that is open is never given to another file. */
static void pin(const char *path, ino_t inode, int flags) {
    static ino_t pinned[512];
    static size_t count;
    for (size_t at = 0; at < count; at++)
        if (pinned[at] == inode) return;
    if (count < 512 && open(path, O_PATH | O_CLOEXEC | flags) >= 0) pinned[count++] = inode;
}

static void die(const char *what) {
    fprintf(stderr, "forget.c: %s: %s\n", what, strerror(errno));
    _exit(97);
}

static void keep_file(int fd, const struct stat *info, const char *image) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/f-%llu", image, (unsigned long long)info->st_ino);
    int source, target;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((source = open(link, O_RDONLY | O_CLOEXEC)) < 0) die("reopen");
    if ((target = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0) die(path);
    if (ftruncate(target, info->st_size)) die("ftruncate");
    off_t at = 0;
    while ((at = lseek(source, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(source, at, SEEK_HOLE);
        while (at < end) {
            size_t want = end - at < (off_t)sizeof buffer ? (size_t)(end - at) : sizeof buffer;
            ssize_t got = pread(source, buffer, want, at);
            if (got <= 0) break;
            if (pread(target, old, got, at) != got || memcmp(old, buffer, got))
                if (pwrite(target, buffer, got, at) != got) die("pwrite");
            at += got;
        }
        if (at < end) break;
    }
    close(source);
    close(target);
}

static void keep_names(const char *directory, const struct stat *info, const char *image) {
    char path[PATH_MAX], beside[PATH_MAX + 8], name[PATH_MAX + 300];
    snprintf(path, sizeof path, "%s/d-%llu", image, (unsigned long long)info->st_ino);
    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *list = fopen(beside, "we");
    DIR *entries = opendir(directory);
    if (!list || !entries) die(directory);
    struct dirent *entry;
    while ((entry = readdir(entries))) {
        struct stat found;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(name, sizeof name, "%s/%s", directory, entry->d_name);
        if (lstat(name, &found)) continue;
        pin(name, found.st_ino, O_NOFOLLOW);
        fprintf(list, "%llu %c %s\n", (unsigned long long)found.st_ino,
                S_ISDIR(found.st_mode) ? 'd' : 'f', entry->d_name);
    }
    closedir(entries);
    if (fclose(list) || rename(beside, path)) die(path);
}

static void keep(int fd) {
    const char *root = getenv("FORGET_ROOT"), *image = getenv("FORGET_IMAGE");
    char link[64], path[PATH_MAX];
    struct stat info;
    if (!root || !image) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    if (strncmp(path, root, strlen(root)) || fstat(fd, &info)) return;
    pthread_mutex_lock(&lock);
    pin(link, info.st_ino, 0);
    if (S_ISDIR(info.st_mode)) keep_names(path, &info, image);
    else if (S_ISREG(info.st_mode)) keep_file(fd, &info, image);
    pthread_mutex_unlock(&lock);
}

/* What is on the disk when the call begins is what it makes safe, at least. */
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    keep(fd);
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    keep(fd);
    return real(fd);
}
