using System.Text.Json.Nodes;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Qmp.Tests.Client;

public sealed class DescriptorTests
{
    [Fact]
    public async Task Descriptors_come_with_their_command()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var file = File.OpenHandle("/dev/zero");
        var call = vmm.Client.ExecuteAsync("getfd", new JsonObject { ["fdname"] = "x" }, new() { Descriptors = [file, file] });
        var id = await vmm.ExpectAsync("getfd");

        Assert.Equal(2, vmm.Wire.Descriptors.Count);
        Assert.All(vmm.Wire.Descriptors, d => Assert.Equal("/dev/zero", Target(d)));
        await vmm.ReturnAsync(id);
        await call.Soon();
        Assert.False(file.IsClosed);
    }

    [Fact]
    public async Task The_second_set_waits_for_the_answer_to_the_first()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var zero = File.OpenHandle("/dev/zero");
        using var nothing = File.OpenHandle("/dev/null");
        var first = vmm.Client.ExecuteAsync("getfd", options: new() { Descriptors = [zero] });
        var between = vmm.Client.ExecuteAsync("between");
        var second = vmm.Client.ExecuteAsync("getfd", options: new() { Descriptors = [nothing] });
        var id = await vmm.ExpectAsync("getfd");
        var idBetween = await vmm.ExpectAsync("between");
        Assert.True(await vmm.Wire.IsSilentAsync());
        Assert.Single(vmm.Wire.Descriptors);

        await vmm.ReturnAsync(id);
        await vmm.ReturnAsync(await vmm.ExpectAsync("getfd"));
        await vmm.ReturnAsync(idBetween);

        await Task.WhenAll(first, between, second).Soon();
        Assert.Equal(["/dev/zero", "/dev/null"], vmm.Wire.Descriptors.Select(Target));
    }

    [Fact]
    public async Task A_full_socket_delays_command_and_descriptors_together()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var file = File.OpenHandle("/dev/zero");
        var text = new string('x', 300_000);
        var calls = Enumerable.Range(0, 4).Select(_ => vmm.Client.ExecuteAsync("big", new JsonObject { ["text"] = text })).ToList();
        calls.Add(vmm.Client.ExecuteAsync("getfd", options: new() { Descriptors = [file] }));
        calls.Add(vmm.Client.ExecuteAsync("after"));

        for (var i = 0; i < 4; i++)
        {
            var id = await vmm.ExpectAsync("big");
            // A read may end the last of these and begin the command with descriptors.
            if (i < 3) Assert.Empty(vmm.Wire.Descriptors);
            await vmm.ReturnAsync(id);
        }

        await vmm.ReturnAsync(await vmm.ExpectAsync("getfd"));
        Assert.Equal("/dev/zero", Target(Assert.Single(vmm.Wire.Descriptors)));
        await vmm.ReturnAsync(await vmm.ExpectAsync("after"));
        await Task.WhenAll(calls).Soon();
    }

    [Fact]
    public async Task The_caller_may_close_its_handle_after_a_cancelled_call_that_still_waits_to_be_sent()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var file = File.OpenHandle("/dev/zero");
        using var other = File.OpenHandle("/dev/null");
        var first = vmm.Client.ExecuteAsync("getfd", options: new() { Descriptors = [other] });
        using var cancel = new CancellationTokenSource();
        var waiting = vmm.Client.ExecuteAsync("never", options: new() { Descriptors = [file] }, ct: cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting.Soon());
        var number = file.DangerousGetHandle();
        file.Dispose();
        Assert.Null(new FileInfo($"/proc/self/fd/{number}").LinkTarget is "/dev/zero" ? "still open" : null);

        await vmm.ReturnAsync(await vmm.ExpectAsync("getfd"));
        await first.Soon();
        await vmm.AssertUsableAsync();
        Assert.Single(vmm.Wire.Descriptors);
    }

    [Fact]
    public async Task Misuse_is_refused_at_once()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var file = File.OpenHandle("/dev/zero");
        await Assert.ThrowsAsync<ArgumentException>(() => vmm.Client.ExecuteAsync("x", options: new() { Descriptors = [file], OutOfBand = true }));
        await Assert.ThrowsAsync<ArgumentException>(() => vmm.Client.ExecuteAsync("x", options: new() { Descriptors = [.. Enumerable.Repeat(file, 17)] }));
        var closed = File.OpenHandle("/dev/zero");
        closed.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => vmm.Client.ExecuteAsync("x", options: new() { Descriptors = [file, closed] }));
        await vmm.AssertUsableAsync();
    }

    [Fact]
    public async Task A_descriptor_that_the_kernel_refuses_fails_its_command_only()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var noDescriptor = new SafeFileHandle(1_000_000, ownsHandle: false);

        var error = await Assert.ThrowsAsync<IOException>(() => vmm.Client.ExecuteAsync("getfd", options: new() { Descriptors = [noDescriptor] }).Soon());

        Assert.Contains("EBADF", error.Message, StringComparison.Ordinal);
        await vmm.AssertUsableAsync();
    }

    private static string? Target(SafeFileHandle descriptor) => new FileInfo($"/proc/self/fd/{descriptor.DangerousGetHandle()}").LinkTarget;
}
