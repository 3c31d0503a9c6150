using CprSharp.Memfd.Interop;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class SchedulingTests : IAsyncLifetime
{
    private readonly ChildProcess _child = ChildProcess.Start(Children.Sleep);

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        Children.Kill(_child);
        await _child.Exited;
        await _child.DisposeAsync();
    }

    [Fact]
    public void Affinity_is_set_as_the_kernel_itself_reports_it()
    {
        var all = Scheduling.GetAffinity(_child.Pid);
        Assert.NotEmpty(all);
        var last = all[^1];

        Scheduling.SetAffinity(_child.Pid, [last]);

        Assert.Equal([last], Scheduling.GetAffinity(_child.Pid));
        Assert.Contains($"Cpus_allowed_list:\t{last}\n", File.ReadAllText($"/proc/{_child.Pid}/status"), StringComparison.Ordinal);
        Scheduling.SetAffinity(_child.Pid, all.Append(5000).ToArray());
        Assert.Equal(all, Scheduling.GetAffinity(_child.Pid));
    }

    [Fact]
    public void Affinity_without_a_usable_cpu_is_refused()
    {
        Assert.Throws<ArgumentException>(() => Scheduling.SetAffinity(_child.Pid, []));
        Assert.Throws<ArgumentOutOfRangeException>(() => Scheduling.SetAffinity(_child.Pid, [-1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => Scheduling.SetAffinity(_child.Pid, [int.MaxValue]));
        Assert.Equal(Errno.EINVAL, Assert.Throws<SyscallException>(() => Scheduling.SetAffinity(_child.Pid, [5000])).Errno);
    }

    [Fact]
    public void Policy_and_nice_value_are_set()
    {
        Assert.Equal((SchedulingPolicy.Other, 0), (Scheduling.GetAttributes(_child.Pid).Policy, Scheduling.GetAttributes(_child.Pid).Nice));

        Scheduling.SetAttributes(_child.Pid, new SchedulingAttributes(SchedulingPolicy.Batch, Nice: 7));

        var attributes = Scheduling.GetAttributes(_child.Pid);
        Assert.Equal((SchedulingPolicy.Batch, 7, 0), (attributes.Policy, attributes.Nice, attributes.Priority));
        Assert.Equal("7", File.ReadAllText($"/proc/{_child.Pid}/stat").Split(' ')[18]);
    }

    [Fact]
    public void Realtime_priority_is_set_where_it_is_allowed()
    {
        try
        {
            Scheduling.SetAttributes(_child.Pid, new SchedulingAttributes(SchedulingPolicy.Fifo, Priority: 3));
        }
        catch (SyscallException e) when (e.Errno == Errno.EPERM)
        {
            Assert.Skip(e.Message);
        }

        var attributes = Scheduling.GetAttributes(_child.Pid);
        Assert.Equal((SchedulingPolicy.Fifo, 3), (attributes.Policy, attributes.Priority));
    }

    [Fact]
    public void Attributes_that_make_no_sense_are_the_kernels_to_refuse()
    {
        var e = Assert.Throws<SyscallException>(() => Scheduling.SetAttributes(_child.Pid, new SchedulingAttributes(SchedulingPolicy.Fifo, Priority: 100)));

        Assert.Equal(("sched_setattr", "EINVAL"), (e.Syscall, e.ErrnoName));
        Assert.Contains("Priority = 100", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Limits_are_set_as_proc_shows_them()
    {
        var before = Scheduling.GetLimit(_child.Pid, Resource.CoreFileSize);
        var limit = new ResourceLimit(0, before.Hard);

        Assert.Equal(before, Scheduling.SetLimit(_child.Pid, Resource.CoreFileSize, limit));

        Assert.Equal(limit, Scheduling.GetLimit(_child.Pid, Resource.CoreFileSize));
        Assert.Equal(limit, ProcFs.Limits(_child.Pid)[Resource.CoreFileSize]);
        Assert.Equal(Errno.EINVAL, Assert.Throws<SyscallException>(() => Scheduling.SetLimit(_child.Pid, Resource.OpenFiles, new ResourceLimit(11, 10))).Errno);
    }

    [Fact]
    public void Every_limit_of_proc_is_the_one_that_the_kernel_gives()
    {
        foreach (var (resource, limit) in ProcFs.Limits(_child.Pid))
            Assert.Equal((resource, limit), (resource, Scheduling.GetLimit(_child.Pid, resource)));
        Assert.Equal(Enum.GetValues<Resource>().Length, ProcFs.Limits(_child.Pid).Count);
    }

    [Fact]
    public void Masks_of_any_length_keep_their_cpus() =>
        Prop.ForAll(
            Gen.Choose(0, 1 << 15).NonEmptyListOf().Select(cpus => cpus.Distinct().Order().ToArray()).ToArbitrary(),
            cpus => CpuMask.FromCpus(cpus) is var mask && mask.Length % 8 == 0 && CpuMask.ToCpus(mask).SequenceEqual(cpus))
            .QuickCheckThrowOnFailure();
}
