using System.Text;
using CprSharp.Interop;
using CprSharp.Memfd.Interop;
using Xunit;

namespace CprSharp.Memfd.Tests;

/// <summary>The structures of the interop code, checked by a C compiler against the headers of this machine.</summary>
public sealed class LayoutTests
{
    [Fact]
    public async Task Structures_are_laid_out_as_in_c()
    {
        if (!File.Exists("/usr/bin/cc"))
            Assert.Skip("No C compiler on this machine.");
        using var directory = new TemporaryDirectory();
        var source = Path.Combine(directory.Path, "layout.c");
        await File.WriteAllTextAsync(source, Source(), TestContext.Current.CancellationToken);

        var (output, status) = await Children.RunAsync(
            Children.Shell($"cc -std=c11 -D_GNU_SOURCE -fsyntax-only {source} 2>&1"), TestContext.Current.CancellationToken);

        Assert.True(status.Code == 0, output);
    }

    private static unsafe string Source()
    {
        var c = new StringBuilder(
            """
            #include <linux/stat.h>
            #include <poll.h>
            #include <signal.h>
            #include <spawn.h>
            #include <stddef.h>
            #include <sys/resource.h>
            #include <sys/socket.h>
            #define sched_param kernel_sched_param
            #include <linux/sched/types.h>
            #define SIZE(type, bytes) _Static_assert(sizeof(type) == bytes, "size of " #type)
            #define FITS(type, bytes) _Static_assert(sizeof(type) <= bytes, "size of " #type)
            #define AT(type, field, bytes) _Static_assert(offsetof(type, field) == bytes, "offset of " #field)

            """);
        LibC.statx_t statx;
        Size("struct statx", sizeof(LibC.statx_t));
        At("struct statx", "stx_blksize", &statx, &statx.BlockSize);
        At("struct statx", "stx_uid", &statx, &statx.UserId);
        At("struct statx", "stx_gid", &statx, &statx.GroupId);
        At("struct statx", "stx_mode", &statx, &statx.Mode);
        At("struct statx", "stx_ino", &statx, &statx.Inode);
        At("struct statx", "stx_size", &statx, &statx.Size);
        At("struct statx", "stx_blocks", &statx, &statx.Blocks);
        At("struct statx", "stx_rdev_major", &statx, &statx.RdevMajor);
        At("struct statx", "stx_rdev_minor", &statx, &statx.RdevMinor);
        At("struct statx", "stx_dev_major", &statx, &statx.DevMajor);
        At("struct statx", "stx_dev_minor", &statx, &statx.DevMinor);

        LibC.pollfd_t pollfd;
        Size("struct pollfd", sizeof(LibC.pollfd_t));
        At("struct pollfd", "events", &pollfd, &pollfd.events);
        At("struct pollfd", "revents", &pollfd, &pollfd.revents);

        LibC.siginfo_t siginfo;
        Size("siginfo_t", sizeof(LibC.siginfo_t));
        At("siginfo_t", "si_code", &siginfo, &siginfo.Code);
        At("siginfo_t", "si_pid", &siginfo, &siginfo.Pid);
        At("siginfo_t", "si_status", &siginfo, &siginfo.Status);

        LibC.sched_attr attributes;
        Size("struct sched_attr", sizeof(LibC.sched_attr));
        At("struct sched_attr", "sched_nice", &attributes, &attributes.nice);
        At("struct sched_attr", "sched_priority", &attributes, &attributes.priority);
        At("struct sched_attr", "sched_period", &attributes, &attributes.period);
        Size("struct rlimit", sizeof(LibC.rlimit_t));

        ScmRights.LibC.msghdr_t message;
        Size("struct msghdr", sizeof(ScmRights.LibC.msghdr_t));
        At("struct msghdr", "msg_namelen", &message, &message.msg_namelen);
        At("struct msghdr", "msg_iov", &message, &message.msg_iov);
        At("struct msghdr", "msg_iovlen", &message, &message.msg_iovlen);
        At("struct msghdr", "msg_control", &message, &message.msg_control);
        At("struct msghdr", "msg_controllen", &message, &message.msg_controllen);
        At("struct msghdr", "msg_flags", &message, &message.msg_flags);
        Size("struct iovec", sizeof(ScmRights.LibC.iovec_t));
        ScmRights.LibC.cmsghdr_t header;
        Size("struct cmsghdr", sizeof(ScmRights.LibC.cmsghdr_t));
        At("struct cmsghdr", "cmsg_level", &header, &header.cmsg_level);
        At("struct cmsghdr", "cmsg_type", &header, &header.cmsg_type);

        foreach (var type in new[] { "posix_spawn_file_actions_t", "posix_spawnattr_t", "sigset_t" })
            c.Append($"FITS({type}, {LibC.SpawnStructureBytes});\n");
        return c.ToString();

        void Size(string type, int bytes) => c.Append($"SIZE({type}, {bytes});\n");

        void At(string type, string field, void* structure, void* member) =>
            c.Append($"AT({type}, {field}, {(byte*)member - (byte*)structure});\n");
    }
}
