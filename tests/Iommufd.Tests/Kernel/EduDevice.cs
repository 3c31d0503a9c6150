using System.Buffers.Binary;
using System.Diagnostics;
using CprSharp.Iommufd.Model;
using Xunit;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>QEMU's educational device (docs/specs/edu.rst): a DMA engine with a buffer of 4 KiB, and an interrupt.</summary>
internal sealed class EduDevice : IDisposable
{
    internal const ulong BufferAddress = 0x40000;
    internal const int BufferBytes = 4096;

    private const ulong Identification = 0x00;
    private const ulong RaiseInterrupt = 0x60;
    private const ulong AcknowledgeInterrupt = 0x64;
    private const uint DmaInterrupt = 0x100;
    private const ulong Run = 1, FromDevice = 2, InterruptAtTheEnd = 4;
    private const ulong DmaSource = 0x80;
    private const ulong DmaTarget = 0x88;
    private const ulong DmaCount = 0x90;
    private const ulong DmaCommand = 0x98;

    internal EduDevice(IOperationRecorder? recorder = null)
    {
        Address = Environment.GetEnvironmentVariable("CPRSHARP_EDU") is { Length: > 0 } addresses
            ? addresses.Split(' ')[0]
            : throw new InvalidOperationException("Ask Require first.");
        Bind(Address);
        Vfio = VfioDevice.OpenPci(Address, recorder);
    }

    /// <summary>A device that another process has opened, bound and attached.</summary>
    internal EduDevice(VfioDevice vfio) => (Vfio, Address) = (vfio, vfio.Name);

    internal string Address { get; }

    internal VfioDevice Vfio { get; }

    internal VfioRegion Registers => Vfio.GetRegion(0);

    /// <summary>Skips the test, saying why, where there is no such device.</summary>
    internal static void Require()
    {
        MockIommu.Require();
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable("CPRSHARP_EDU")))
            Assert.Skip("There is no edu device here. These tests run in the virtual host: integration-vm/scenario iommufd.");
    }

    internal uint Identify() => Read32(Identification);

    internal void Interrupt(uint value) => Write32(RaiseInterrupt, value);

    internal void Acknowledge(uint value) => Write32(AcknowledgeInterrupt, value);

    /// <summary>Lets the device copy from memory to its buffer, or back, and waits for the end.</summary>
    internal void Dma(ulong iova, bool toDevice, int count = BufferBytes)
    {
        Start(iova, toDevice, count, 0);
        AwaitEnd();
    }

    private void AwaitEnd()
    {
        var clock = Stopwatch.StartNew();
        while ((Read64(DmaCommand) & Run) != 0)
        {
            if (clock.Elapsed > TimeSpan.FromSeconds(30))
                throw new TimeoutException("The edu device does not end its DMA.");
            Thread.Yield();
        }
    }

    /// <summary>As <see cref="Dma"/>, but it is the interrupt that tells of the end; a transfer takes the device 100 ms.</summary>
    internal void BeginDma(ulong iova, bool toDevice) => Start(iova, toDevice, BufferBytes, InterruptAtTheEnd);

    /// <summary>To be called after the interrupt of <see cref="BeginDma"/>.</summary>
    internal void EndDma()
    {
        if ((Read64(DmaCommand) & Run) != 0)
            throw new InvalidOperationException("The interrupt came before the end of the DMA.");
        Acknowledge(DmaInterrupt);
    }

    /// <summary>After somebody who let go of it in the middle of a transfer: waits for its end and acknowledges it.</summary>
    internal void Settle()
    {
        AwaitEnd();
        Acknowledge(DmaInterrupt);
    }

    /// <summary>Lets the device answer at its BAR, which then can be exported and mapped.</summary>
    internal void EnableMemory()
    {
        var config = Vfio.GetRegion(VfioDevice.PciConfigRegion);
        var command = new byte[2];
        Vfio.Read(config, 4, command);
        command[0] |= 2;
        Vfio.Write(config, 4, command);
    }

    public void Dispose() => Vfio.Dispose();

    private void Start(ulong iova, bool toDevice, int count, ulong flags)
    {
        Write64(DmaSource, toDevice ? iova : BufferAddress);
        Write64(DmaTarget, toDevice ? BufferAddress : iova);
        Write64(DmaCount, (ulong)count);
        Write64(DmaCommand, Run | flags | (toDevice ? 0 : FromDevice));
    }

    internal static void Bind(string address)
    {
        var device = $"/sys/bus/pci/devices/{address}";
        if (Directory.Exists($"{device}/vfio-dev"))
            return;
        File.WriteAllText($"{device}/driver_override", "vfio-pci");
        if (Directory.Exists($"{device}/driver"))
            File.WriteAllText($"{device}/driver/unbind", address);
        File.WriteAllText("/sys/bus/pci/drivers_probe", address);
    }

    private uint Read32(ulong offset)
    {
        Span<byte> bytes = stackalloc byte[4];
        Vfio.Read(Registers, offset, bytes);
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes);
    }

    private ulong Read64(ulong offset)
    {
        Span<byte> bytes = stackalloc byte[8];
        Vfio.Read(Registers, offset, bytes);
        return BinaryPrimitives.ReadUInt64LittleEndian(bytes);
    }

    private void Write32(ulong offset, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        Vfio.Write(Registers, offset, bytes);
    }

    private void Write64(ulong offset, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        Vfio.Write(Registers, offset, bytes);
    }
}
