using CprSharp.Memfd.Interop;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class SchedulingTests : IAsyncLifetime
{
    private readonly RunningChild _running = new(Children.Sleep);

    private ChildProcess Child => _running.Process;

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    [Fact]
    public void Affinity_is_set_as_the_kernel_itself_reports_it()
    {
        var all = Scheduling.GetAffinity(Child.Pid);
        Assert.NotEmpty(all);
        var last = all[^1];

        Scheduling.SetAffinity(Child.Pid, [last]);

        Assert.Equal([last], Scheduling.GetAffinity(Child.Pid));
        Assert.Contains($"Cpus_allowed_list:\t{last}\n", File.ReadAllText($"/proc/{Child.Pid}/status"), StringComparison.Ordinal);
        Scheduling.SetAffinity(Child.Pid, all.Append(5000).ToArray());
        Assert.Equal(all, Scheduling.GetAffinity(Child.Pid));
    }

    [Fact]
    public void Affinity_without_a_usable_cpu_is_refused()
    {
        Assert.Throws<ArgumentException>(() => Scheduling.SetAffinity(Child.Pid, []));
        Assert.Throws<ArgumentOutOfRangeException>(() => Scheduling.SetAffinity(Child.Pid, [-1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => Scheduling.SetAffinity(Child.Pid, [int.MaxValue]));
        Assert.Equal(Errno.EINVAL, Assert.Throws<SyscallException>(() => Scheduling.SetAffinity(Child.Pid, [5000])).Errno);
    }

    [Fact]
    public void Policy_and_nice_value_are_set()
    {
        Assert.Equal((SchedulingPolicy.Other, 0), (Scheduling.GetAttributes(Child.Pid).Policy, Scheduling.GetAttributes(Child.Pid).Nice));

        Scheduling.SetAttributes(Child.Pid, new SchedulingAttributes(SchedulingPolicy.Batch, Nice: 7));

        var attributes = Scheduling.GetAttributes(Child.Pid);
        Assert.Equal((SchedulingPolicy.Batch, 7, 0), (attributes.Policy, attributes.Nice, attributes.Priority));
        Assert.Equal("7", File.ReadAllText($"/proc/{Child.Pid}/stat").Split(' ')[18]);
    }

    [Fact]
    public void Realtime_priority_is_set_where_it_is_allowed()
    {
        try
        {
            Scheduling.SetAttributes(Child.Pid, new SchedulingAttributes(SchedulingPolicy.Fifo, Priority: 3));
        }
        catch (SyscallException e) when (e.Errno == Errno.EPERM)
        {
            Assert.Skip(e.Message);
        }

        var attributes = Scheduling.GetAttributes(Child.Pid);
        Assert.Equal((SchedulingPolicy.Fifo, 3), (attributes.Policy, attributes.Priority));
    }

    [Fact]
    public void Attributes_that_make_no_sense_are_the_kernels_to_refuse()
    {
        var e = Assert.Throws<SyscallException>(() => Scheduling.SetAttributes(Child.Pid, new SchedulingAttributes(SchedulingPolicy.Fifo, Priority: 100)));

        Assert.Equal(("sched_setattr", "EINVAL"), (e.Syscall, e.ErrnoName));
        Assert.Contains("Priority = 100", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Limits_are_set_as_proc_shows_them()
    {
        var before = Scheduling.GetLimit(Child.Pid, Resource.CoreFileSize);
        var limit = new ResourceLimit(0, before.Hard);

        Assert.Equal(before, Scheduling.SetLimit(Child.Pid, Resource.CoreFileSize, limit));

        Assert.Equal(limit, Scheduling.GetLimit(Child.Pid, Resource.CoreFileSize));
        Assert.Equal(limit, ProcFs.Limits(Child.Pid)[Resource.CoreFileSize]);
        Assert.Equal(Errno.EINVAL, Assert.Throws<SyscallException>(() => Scheduling.SetLimit(Child.Pid, Resource.OpenFiles, new ResourceLimit(11, 10))).Errno);
    }

    [Fact]
    public void Every_limit_of_proc_is_the_one_that_the_kernel_gives()
    {
        foreach (var (resource, limit) in ProcFs.Limits(Child.Pid))
            Assert.Equal((resource, limit), (resource, Scheduling.GetLimit(Child.Pid, resource)));
        Assert.Equal(Enum.GetValues<Resource>().Length, ProcFs.Limits(Child.Pid).Count);
    }

    [Fact]
    public void Masks_of_any_length_keep_their_cpus() =>
        Prop.ForAll(
            Gen.Choose(0, 1 << 15).NonEmptyListOf().Select(cpus => cpus.Distinct().Order().ToArray()).ToArbitrary(),
            cpus => CpuMask.FromCpus(cpus) is var mask && mask.Length % 8 == 0 && CpuMask.ToCpus(mask).SequenceEqual(cpus))
            .QuickCheckThrowOnFailure();
}
