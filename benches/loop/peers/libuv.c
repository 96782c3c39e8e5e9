// What bench-loop does with Torsade, with libuv: `libuv TABLE SIZE` prints the CPU time of
// a unit in nanoseconds. Counts its callbacks, and checks that none came early.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <uv.h>

static uint64_t draws = 1;
static size_t made;
static size_t until;

static void demand(int holds, const char *what) {
  if (!holds) {
    fprintf(stderr, "%s\n", what);
    exit(1);
  }
}

// A linear congruential generator (Knuth's MMIX), as in timers.rs.
static uint64_t draw(void) {
  draws = draws * 6364136223846793005u + 1442695040888963407u;
  return draws >> 33;
}

// In milliseconds, which is what libuv counts in: rounded up.
static uint64_t long_delay(void) { return 30000 + (draw() % 30000000 + 999) / 1000; }
static uint64_t short_delay(size_t count) {
  return (draw() % (count < 1000000 ? 100000 : 1000000) + 999) / 1000;
}

static double cpu_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

// The cost of a unit, and the peak of this process's memory.
static void report(double cost) {
  char line[256];
  unsigned long kib = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %lu", &kib);
  printf("%f %lu\n", cost, kib);
}

// By the clock, not by the loop's own time, which is whole milliseconds cut off (of a clock that is itself one
// behind where the system has one so coarse).
static const uint64_t early = 2000000;

static void on_timer(uv_timer_t *timer) {
  demand(uv_hrtime() + early >= (uint64_t)(uintptr_t)timer->data, "a timer came early");
  made++;
}

static void cancel(uv_loop_t *loop, size_t pending, int at_once) {
  const size_t cancelled = 500000;
  uv_timer_t *timers = calloc(pending + 1, sizeof *timers);
  for (size_t i = 0; i <= pending; i++) {
    uv_timer_init(loop, &timers[i]);
    if (i < pending) uv_timer_start(&timers[i], on_timer, long_delay(), 0);
  }
  size_t oldest = 0, free = pending;
  double before = 0;
  for (size_t i = 0; i < cancelled + cancelled / 10; i++) {
    if (i == cancelled / 10) before = cpu_time();
    uv_timer_start(&timers[free], on_timer, long_delay(), 0);
    if (at_once) {
      uv_timer_stop(&timers[free]);
    } else {
      uv_timer_stop(&timers[oldest]);
      free = oldest;
      oldest = oldest == pending ? 0 : oldest + 1;
    }
  }
  report((cpu_time() - before) / (double)cancelled);
}

static void fire(uv_loop_t *loop, size_t count) {
  double before = cpu_time();
  uv_timer_t *timers = malloc(count * sizeof *timers);
  for (size_t i = 0; i < count; i++) {
    uint64_t delay = short_delay(count);
    uv_timer_init(loop, &timers[i]);
    // The time of the turn, as uv_timer_start takes it; the others read the clock.
    uv_update_time(loop);
    timers[i].data = (void *)(uintptr_t)(uv_hrtime() + delay * 1000000);
    uv_timer_start(&timers[i], on_timer, delay, 0);
  }
  uv_run(loop, UV_RUN_DEFAULT);
  demand(made == count, "each timer fires once");
  report((cpu_time() - before) / (double)count);
}

static int near, far, answers;

static void on_ready(uv_poll_t *poll, int status, int events) {
  demand(status == 0 && events == UV_READABLE, "it is readable");
  if (answers) {
    char buffer[64];
    demand(recv(near, buffer, sizeof buffer, 0) == 64, "all of it comes");
    demand(send(far, buffer, sizeof buffer, 0) == 64, "there is room");
  }
  if (++made == until) uv_stop(poll->loop);
}

static void turn(uv_loop_t *loop, size_t count) {
  uv_poll_t poll;
  uv_poll_init(loop, &poll, near);
  uv_poll_start(&poll, UV_READABLE, on_ready);
  until = count;
  uv_run(loop, UV_RUN_DEFAULT);
  double before = cpu_time();
  until = 2 * count;
  uv_run(loop, UV_RUN_DEFAULT);
  demand(made == 2 * count, "each turn calls");
  report((cpu_time() - before) / (double)count);
}

// Calls from other threads: a queue behind a lock, and uv_async_send for each, as libuv's guide has it.
struct call {
  void (*function)(struct call *);
  struct call *next;
  size_t number;
  uint64_t posted;
};

static uv_async_t waking;
static uv_mutex_t lock;
static struct call *first, **last = &first;

static void post(struct call *call) {
  call->next = NULL;
  uv_mutex_lock(&lock);
  *last = call;
  last = &call->next;
  uv_mutex_unlock(&lock);
  demand(uv_async_send(&waking) == 0, "it wakes");
}

static void on_waking(uv_async_t *async) {
  uv_mutex_lock(&lock);
  struct call *call = first;
  first = NULL;
  last = &first;
  uv_mutex_unlock(&lock);
  while (call) {
    struct call *next = call->next;
    call->function(call);
    free(call);
    call = next;
  }
  if (made == until) uv_stop(async->loop);
}

static void take(struct call *call) {
  demand(call->number < until, "it brings what it was posted with");
  made++;
}

static void post_numbers(void *argument) {
  size_t each = *(size_t *)argument;
  for (size_t number = 0; number < each; number++) {
    struct call *call = malloc(sizeof *call);
    call->function = take;
    call->number = number;
    post(call);
  }
}

static void from_threads(uv_loop_t *loop, size_t count) {
  size_t each = 1000000 / count;
  uv_thread_t threads[16];
  demand(count <= 16, "there are few threads");
  until = each * count;
  double before = cpu_time();
  for (size_t i = 0; i < count; i++) uv_thread_create(&threads[i], post_numbers, &each);
  uv_run(loop, UV_RUN_DEFAULT);
  for (size_t i = 0; i < count; i++) uv_thread_join(&threads[i]);
  demand(made == until, "each is called once");
  report((cpu_time() - before) / (double)until);
}

#define POSTS 2000
static uint64_t took[POSTS];
static size_t heard;

static void hear(struct call *call) {
  took[made++] = uv_hrtime() - call->posted;
  __atomic_store_n(&heard, made, __ATOMIC_RELEASE);
}

static void post_times(void *argument) {
  (void)argument;
  for (size_t posted = 0; posted < POSTS; posted++) {
    while (__atomic_load_n(&heard, __ATOMIC_ACQUIRE) < posted) {}
    uint64_t when = uv_hrtime() + 50000;
    while (uv_hrtime() < when) {}
    struct call *call = malloc(sizeof *call);
    call->function = hear;
    call->posted = uv_hrtime();
    post(call);
  }
}

static int earlier(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static void on_idle(uv_idle_t *idle) { (void)idle; }

static void latency(uv_loop_t *loop, int awake) {
  uv_idle_t idle;
  uv_thread_t thread;
  uv_idle_init(loop, &idle);
  if (awake) uv_idle_start(&idle, on_idle);
  until = POSTS;
  uv_thread_create(&thread, post_times, NULL);
  uv_run(loop, UV_RUN_DEFAULT);
  uv_thread_join(&thread);
  size_t cold = POSTS / 10;
  qsort(took + cold, POSTS - cold, sizeof *took, earlier);
  report((double)took[cold + (POSTS - cold) / 2]);
}

int main(int argc, char **argv) {
  demand(argc == 3, "usage: libuv TABLE SIZE");
  uv_loop_t *loop = uv_default_loop();
  const char *table = argv[1];
  size_t size = strtoull(argv[2], NULL, 10);
  uv_mutex_init(&lock);
  if (!strcmp(table, "call_from_thread")) {
    uv_async_init(loop, &waking, on_waking);
    from_threads(loop, size);
  } else if (!strcmp(table, "latency")) {
    uv_async_init(loop, &waking, on_waking);
    latency(loop, size == 1);
  } else if (!strcmp(table, "timers_cancel")) {
    cancel(loop, size, 1);
  } else if (!strcmp(table, "timers_replace")) {
    cancel(loop, size, 0);
  } else if (!strcmp(table, "timers_fire")) {
    fire(loop, size);
  } else if (!strcmp(table, "turn")) {
    near = eventfd(1, EFD_NONBLOCK);
    turn(loop, size);
  } else if (!strcmp(table, "turn_answered")) {
    int pair[2];
    demand(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0, "a pair");
    near = pair[0];
    far = pair[1];
    answers = 1;
    char message[64] = {0};
    demand(send(far, message, sizeof message, 0) == 64, "there is room");
    turn(loop, size);
  } else {
    demand(0, "there is no such table");
  }
  return 0;
}
