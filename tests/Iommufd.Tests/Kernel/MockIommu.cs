using System.Runtime.InteropServices;
using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>The kernel's own test IOMMU (drivers/iommu/iommufd/selftest.c, CONFIG_IOMMUFD_TEST): devices, page tables and DMA without hardware.</summary>
internal sealed class MockIommu : IDisposable
{
    /// <summary>Below it everything is reserved once a device is attached.</summary>
    internal const ulong ApertureStart = 1 << 24;
    internal const ulong ApertureLast = (1UL << 31) - 1;
    internal const ulong Page = 4096;
    internal const ulong MockPage = 2048;
    internal const uint NoDirtyTracking = 1;
    internal const uint AccessWrites = 1;

    private const uint IOMMU_TEST_CMD = 0x3ba0;

    internal MockIommu(IOperationRecorder? recorder = null, SafeFileHandle? handle = null)
    {
        if (handle is null)
            Require();
        Context = handle is null ? IommufdContext.Open(recorder) : IommufdContext.Adopt(handle, recorder);
    }

    internal IommufdContext Context { get; }

    /// <summary>Skips the test, saying why, where there is no such kernel.</summary>
    internal static unsafe void Require()
    {
        if (!File.Exists(IommufdContext.DevicePath))
            Assert.Skip("This kernel has no /dev/iommu. These tests run in the virtual host: integration-vm/scenario iommufd.");
        using var context = IommufdContext.Open();
        var probe = new Command { size = (uint)sizeof(Command), op = uint.MaxValue };
        if (LibC.ioctl(context.Handle, IOMMU_TEST_CMD, &probe) < 0 && Marshal.GetLastPInvokeError() == Errno.ENOTTY)
            Assert.Skip("This kernel has no IOMMUFD_TEST. These tests run in the virtual host: integration-vm/scenario iommufd.");
    }

    /// <summary>Makes a device, binds and attaches it.</summary>
    internal MockDevice Attach(PageTableId pageTable, uint flags = 0)
    {
        var command = new Command { op = 12, id = pageTable.Id.Value };
        command.d1 = (ulong)flags << 32;
        Run("MOCK_DOMAIN_FLAGS", ref command);
        return new MockDevice(this, (uint)command.d0, new HwptId((uint)(command.d0 >> 32)), new DeviceId((uint)command.d1));
    }

    internal void Reserve(IoasId ioas, IovaRange range)
    {
        var command = new Command { op = 1, id = ioas.Value, d0 = range.Start, d1 = range.Length };
        Run("ADD_RESERVED", ref command);
    }

    /// <summary>Whether the page table leads to the very pages that this process has at an address.</summary>
    internal bool LeadsTo(HwptId hwpt, ulong iova, nint address, ulong length)
    {
        var command = new Command { op = 3, id = hwpt.Value, d0 = iova, d1 = length, d2 = (ulong)address };
        return Try(ref command) switch
        {
            0 => true,
            Errno.EINVAL => false,
            var errno => throw new SyscallException("IOMMU_TEST_CMD", "MD_CHECK_MAP", errno),
        };
    }

    /// <summary>Whether every page at an address of this process is pinned so many times.</summary>
    internal bool IsPinned(nint address, ulong length, uint times)
    {
        var command = new Command { op = 4, d0 = length, d1 = (ulong)address, d2 = times };
        return Try(ref command) switch
        {
            0 => true,
            ErrnoEIO => false,
            var errno => throw new SyscallException("IOMMU_TEST_CMD", "MD_CHECK_REFS", errno),
        };
    }

    /// <summary>A driver's access to the memory of an address space, as an mdev has it.</summary>
    internal unsafe MockAccess CreateAccess(IoasId ioas)
    {
        var command = new Command { op = 5, id = ioas.Value };
        Run("CREATE_ACCESS", ref command);
        return new MockAccess(new SafeFileHandle((nint)(uint)command.d0, ownsHandle: true), new MockAccessId(Context));
    }

    /// <summary>As if a device had written to pages.</summary>
    internal unsafe ulong WriteAsDevice(HwptId hwpt, IovaRange range, ulong pageSize, ReadOnlySpan<ulong> bits)
    {
        fixed (ulong* bitmap = bits)
        {
            var command = new Command { op = 13, id = hwpt.Value, d1 = range.Start, d2 = range.Length, d3 = pageSize, d4 = (ulong)bitmap };
            Run("DIRTY", ref command);
            return command.d5;
        }
    }

    /// <summary>A dma-buf like that of a BAR.</summary>
    internal SafeFileHandle CreateDmaBuf(uint length)
    {
        var before = ProcFs.Descriptors(Environment.ProcessId).Where(d => d.Info.Kind == DescriptorKind.DmaBuf).Select(d => d.Number).ToHashSet();
        const uint cloexec = 0x80000;
        var command = new Command { op = 22, d0 = length | (ulong)cloexec << 32 };
        Run("DMABUF_GET", ref command);
        // Linux 7.3.4 makes the descriptor and forgets to return it.
        var made = ProcFs.Descriptors(Environment.ProcessId).Single(d => d.Info.Kind == DescriptorKind.DmaBuf && !before.Contains(d.Number));
        return new SafeFileHandle(made.Number, ownsHandle: true);
    }

    /// <summary>Revokes a dma-buf, as VFIO does when the device's memory is disabled.</summary>
    internal void Revoke(SafeFileHandle dmaBuf, bool revoked)
    {
        var command = new Command { op = 23, d0 = (uint)dmaBuf.DangerousGetHandle() | (revoked ? 1UL << 32 : 0) };
        Run("DMABUF_REVOKE", ref command);
    }

    /// <summary>How much memory the kernel's self-test lets a call use for its batches; 65536 is the default. Of the whole kernel, not of this context.</summary>
    internal void SetTemporaryMemoryLimit(uint bytes)
    {
        var command = new Command { op = 9, d0 = bytes };
        Run("SET_TEMP_MEMORY_LIMIT", ref command);
    }

    public void Dispose() => Context.Dispose();

    internal void Replace(uint stdev, PageTableId pageTable)
    {
        var command = new Command { op = 10, id = stdev, d0 = pageTable.Id.Value };
        Run("MOCK_DOMAIN_REPLACE", ref command);
    }

    internal static unsafe int Try(SafeHandle handle, ref Command command)
    {
        command.size = (uint)sizeof(Command);
        fixed (Command* argument = &command)
            return LibC.ioctl(handle, IOMMU_TEST_CMD, argument) < 0 ? Marshal.GetLastPInvokeError() : 0;
    }

    private const int ErrnoEIO = 5;

    private int Try(ref Command command) => Try(Context.Handle, ref command);

    private void Run(string name, ref Command command)
    {
        var errno = Try(ref command);
        if (errno != 0)
            throw new IommufdException($"IOMMU_TEST_CMD {name}", $"object {command.id}", null, errno);
    }

    /// <summary>struct iommu_test_cmd: 72 bytes, of which 48 are the command's own.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 72)]
    internal struct Command
    {
        internal uint size;
        internal uint op;
        internal uint id;
        internal uint reserved;
        internal ulong d0;
        internal ulong d1;
        internal ulong d2;
        internal ulong d3;
        internal ulong d4;
        internal ulong d5;
        internal uint last;
    }
}

/// <summary>A mock device.</summary>
/// <param name="Iommu">Where it is.</param>
/// <param name="Id">The selftest's object.</param>
/// <param name="Hwpt">What it was attached to.</param>
/// <param name="Device">What a VFIO device's bind would have returned.</param>
internal sealed record MockDevice(MockIommu Iommu, uint Id, HwptId Hwpt, DeviceId Device)
{
    internal void MoveTo(PageTableId pageTable) => Iommu.Replace(Id, pageTable);

    /// <summary>Detaches and unbinds.</summary>
    internal void Remove() => Iommu.Context.Destroy(new ObjectId(ObjectKind.Unknown, Id));
}

/// <summary>Found by the kernel from the access's descriptor; the command goes to the context.</summary>
/// <param name="Context">The context.</param>
internal sealed record MockAccessId(IommufdContext Context);

/// <summary>An access. Its calls go to its own descriptor's context by that descriptor's number.</summary>
internal sealed class MockAccess(SafeFileHandle handle, MockAccessId id) : IDisposable
{
    /// <summary>Reads or writes as a driver would.</summary>
    internal unsafe int TryTransfer(ulong iova, Span<byte> data, bool write)
    {
        fixed (byte* pointer = data)
        {
            var command = new MockIommu.Command
            {
                op = 8,
                id = (uint)handle.DangerousGetHandle(),
                d0 = iova,
                d1 = (ulong)data.Length,
                d2 = (ulong)pointer,
                d3 = write ? 1u : 0,
            };
            return MockIommu.Try(id.Context.Handle, ref command);
        }
    }

    public void Dispose() => handle.Dispose();
}
