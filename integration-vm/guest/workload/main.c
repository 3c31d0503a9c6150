/*
 * The guest's workload: it makes every fault that an update could bring upon a guest visible from outside.
 * Kernel command line: cprsharp.mem=MIB (64), cprsharp.duty=PERCENT (25), cprsharp.disk=DEVICE,
 * cprsharp.tick=MS (1); what lasts longer than 20 ticks is a gap.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>
#include "workload.h"

void say(const char *format, ...)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char line[512] = "CPRSHARP ";
    va_list values;
    va_start(values, format);
    int n = 9 + vsnprintf(line + 9, sizeof line - 10, format, values);
    va_end(values);
    if (n > (int)sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    pthread_mutex_lock(&lock);
    for (int done = 0; done < n;) {
        ssize_t w = write(STDOUT_FILENO, line + done, (size_t)(n - done));
        if (w > 0)
            done += (int)w;
        else if (errno != EINTR && errno != EAGAIN)
            abort();
    }
    pthread_mutex_unlock(&lock);
}

void duty_rest(struct duty *d)
{
    if (d->percent >= 100)
        return;
    uint64_t worked_us = (monotonic_ns() - d->worked_since) / 1000;
    uint64_t rest_us = worked_us * (100 - d->percent) / d->percent;
    usleep(rest_us < 50000 ? (useconds_t)rest_us : 50000);
    d->worked_since = monotonic_ns();
}

void report(void)
{
    say("t=%llu ticks=%llu gaps=%llu maxgap_ms=%.1f mem_rounds=%llu mem_errors=%llu disk_seq=%llu disk_errors=%llu "
        "clock_errors=%llu",
        (unsigned long long)(monotonic_ns() / NS_PER_MS), (unsigned long long)ticks, (unsigned long long)gaps,
        (double)max_gap_ns / NS_PER_MS, (unsigned long long)memory_rounds, (unsigned long long)memory_errors,
        (unsigned long long)disk_seq, (unsigned long long)disk_errors, (unsigned long long)clock_errors);
}

static const char *kernel_parameter(const char *name)
{
    static char line[4096];
    FILE *f = fopen("/proc/cmdline", "re");
    if (!f || !fgets(line, sizeof line, f))
        line[0] = 0;
    if (f)
        fclose(f);
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
        if (strncmp(word, name, strlen(name)) == 0 && word[strlen(name)] == '=')
            return strdup(word + strlen(name) + 1);
    return NULL;
}

static size_t number_parameter(const char *name, size_t otherwise)
{
    const char *text = kernel_parameter(name);
    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void console_raw(void)
{
    struct termios t;
    if (tcgetattr(STDIN_FILENO, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
    }
}

static void read_commands(void)
{
    static char line[256];
    static size_t used;
    char input[256];
    ssize_t n = read(STDIN_FILENO, input, sizeof input);
    for (ssize_t i = 0; i < n; i++)
        if (input[i] == '\n' || input[i] == '\r') {
            line[used] = 0;
            if (used > 0)
                command_run(line);
            used = 0;
        } else if (used < sizeof line - 1) {
            line[used++] = input[i];
        }
}

int main(void)
{
    console_raw();
    signal(SIGCHLD, SIG_IGN);

    struct sysinfo info;
    sysinfo(&info);
    size_t most = (size_t)info.freeram * info.mem_unit / 2 >> 20;
    size_t wanted = number_parameter("cprsharp.mem", 64);
    size_t mib = wanted < most ? wanted : most;
    size_t percent = number_parameter("cprsharp.duty", 25);
    unsigned duty = percent < 1 ? 1 : percent > 100 ? 100 : (unsigned)percent;

    say("workload mem_mib=%zu duty=%u", mib, duty);
    ticker_start(number_parameter("cprsharp.tick", 1));
    memory_start(mib << 20, duty);
    disk_start(kernel_parameter("cprsharp.disk"), duty);
    say("ready");

    int every_second = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    timerfd_settime(every_second, 0, &(struct itimerspec){.it_value.tv_sec = 1, .it_interval.tv_sec = 1}, NULL);
    struct pollfd on[] = {{STDIN_FILENO, POLLIN, 0}, {every_second, POLLIN, 0}, {ticker_event, POLLIN, 0}};
    for (;;) {
        if (poll(on, 3, -1) < 0 && errno != EINTR)
            abort();
        if (on[2].revents)
            ticker_report();
        if (on[0].revents)
            read_commands();
        if (on[1].revents) {
            uint64_t seconds;
            if (read(every_second, &seconds, sizeof seconds) > 0)
                report();
        }
    }
}
