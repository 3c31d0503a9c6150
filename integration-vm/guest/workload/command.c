#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include "workload.h"

/* A helper of the guest's /bin answers on the console by itself: nothing here waits for it. */
static void run_helper(const char *program, const char *argument)
{
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, argument, (char *)NULL);
        _exit(127);
    }
    if (child < 0)
        say("error %s: %m", program);
}

static void end(const char *how, int command)
{
    disk_sync();
    say("%s", how);
    usleep(20000); /* the serial port's FIFO */
    sync();
    reboot(command);
}

static void size_of_machine(void)
{
    struct sysinfo info;
    sysinfo(&info);
    say("cpus=%ld mem_kib=%llu", sysconf(_SC_NPROCESSORS_ONLN), (unsigned long long)info.totalram * info.mem_unit / 1024);
}

void command_run(char *line)
{
    char *argument = strchr(line, ' ');
    if (argument)
        *argument++ = 0;

    if (strcmp(line, "report") == 0)
        report();
    else if (strcmp(line, "ping") == 0)
        say("pong %s", argument ? argument : "");
    else if (strcmp(line, "reset") == 0) {
        gaps = max_gap_ns = 0;
        say("reset");
    } else if (strcmp(line, "sync") == 0) {
        disk_sync();
        say("synced disk_seq=%llu", (unsigned long long)disk_seq);
    } else if (strcmp(line, "resume") == 0) {
        disk_resume();
        say("resumed");
    } else if (strcmp(line, "cpus") == 0)
        size_of_machine();
    else if (strcmp(line, "online") == 0)
        run_helper("/bin/online", NULL);
    else if (strcmp(line, "net") == 0)
        run_helper("/bin/net", argument);
    else if (strcmp(line, "bar") == 0)
        run_helper("/bin/bar", argument);
    else if (strcmp(line, "share") == 0)
        run_helper("/bin/share", argument);
    else if (strcmp(line, "streams") == 0)
        run_helper("/bin/streams", argument);
    else if (strcmp(line, "poweroff") == 0)
        end("poweroff", RB_POWER_OFF);
    else if (strcmp(line, "reboot") == 0)
        end("reboot", RB_AUTOBOOT);
    else
        say("unknown command '%s'", line);
}
