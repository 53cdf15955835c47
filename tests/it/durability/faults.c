/* What a disk and a clock may do to the service, put between it and the C library: LD_PRELOAD names
 * this library, FAULTS a folder. A file `disk` there holds the errno of every write and sync to a
 * regular file from now on, or `hang`; a file `clock` the seconds that the time of day is wrong by. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

static __thread int inside;

/* Reads the file `name` into `said`; its length, 0 where there is none. */
static long told(const char *name, char *said, size_t size) {
  const char *folder = getenv("FAULTS");
  char path[4096];
  if (!folder || inside) return 0;
  inside = 1;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  long length = file < 0 ? 0 : read(file, said, size - 1);
  if (file >= 0) close(file);
  inside = 0;
  if (length < 0) length = 0;
  said[length] = 0;
  return length;
}

/* The errno of an operation on `file` now, 0 for none; returns when the disk no longer hangs. */
static int fault(int file) {
  struct stat is;
  char said[16];
  int before = errno;
  if (fstat(file, &is) || !S_ISREG(is.st_mode)) { errno = before; return 0; }
  while (told("disk", said, sizeof said) && !strncmp(said, "hang", 4)) usleep(2000);
  int number = told("disk", said, sizeof said) ? atoi(said) : 0;
  errno = before;
  return number;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(file) do { int number = fault(file); if (number) { errno = number; return -1; } } while (0)

int fsync(int file) { REAL(fsync); FAIL(file); return real(file); }
int fdatasync(int file) { REAL(fdatasync); FAIL(file); return real(file); }
ssize_t write(int file, const void *bytes, size_t count) { REAL(write); FAIL(file); return real(file, bytes, count); }
ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) { REAL(pwrite); FAIL(file); return real(file, bytes, count, at); }
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) { REAL(pwrite64); FAIL(file); return real(file, bytes, count, at); }
int ftruncate(int file, off_t length) { REAL(ftruncate); FAIL(file); return real(file, length); }
int ftruncate64(int file, off64_t length) { REAL(ftruncate64); FAIL(file); return real(file, length); }

int clock_gettime(clockid_t clock, struct timespec *now) {
  REAL(clock_gettime);
  int code = real(clock, now);
  char said[32];
  if (!code && clock == CLOCK_REALTIME && told("clock", said, sizeof said)) now->tv_sec += atol(said);
  return code;
}

/* The clock of SQLite. */
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  REAL(gettimeofday);
  int code = real(now, zone);
  char said[32];
  if (!code && told("clock", said, sizeof said)) now->tv_sec += atol(said);
  return code;
}
