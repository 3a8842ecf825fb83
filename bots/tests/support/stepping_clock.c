/* A wall clock that a test sets: preloaded into the program, it answers for CLOCK_REALTIME from a file
 * that the test writes, `shown + (true - since) * speed`. What elapses (CLOCK_MONOTONIC) stays true. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* One page: which of the two settings counts, then the settings. Nanoseconds. */
struct setting {
    int64_t since, shown, speed;
};
struct page {
    volatile int64_t counts;
    struct setting settings[2];
};

static int (*true_gettime)(clockid_t, struct timespec *);
static struct page *page;

__attribute__((constructor)) static void begin(void) {
    true_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("STEPPING_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct page), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) page = mapped;
}

int clock_gettime(clockid_t which, struct timespec *into) {
    if (!true_gettime) begin();
    int result = true_gettime(which, into);
    if (result || !page || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE)) return result;
    struct setting s = page->settings[page->counts & 1];
    int64_t now = (int64_t)into->tv_sec * 1000000000 + into->tv_nsec;
    int64_t shown = s.shown + (now - s.since) * s.speed;
    into->tv_sec = shown / 1000000000;
    into->tv_nsec = shown % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict into, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    into->tv_sec = now.tv_sec;
    into->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
