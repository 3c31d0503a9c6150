using System.Globalization;

namespace CprSharp.Iommufd.Changes;

/// <summary>
/// Proof or promise that no device reads or writes an address space while it is being changed. Without it a remapping under running
/// DMA loses data; so there is no way to remap without one.
/// </summary>
public sealed class DeviceQuiescence
{
    private DeviceQuiescence(string reason) => Reason = reason;

    /// <summary>Why no DMA can happen, for records and messages.</summary>
    public string Reason { get; }

    /// <summary>The kernel shows that no device is attached.</summary>
    /// <param name="context">The context.</param>
    /// <param name="ioas">The address space.</param>
    /// <exception cref="NotQuiescedException">A page table or an mdev uses it, or the kernel cannot tell.</exception>
    public static DeviceQuiescence NoneAttached(IommufdContext context, IoasId ioas)
    {
        ArgumentNullException.ThrowIfNull(context);
        // Without huge pages the alignment is a page whether anything is attached or not (iopt_calculate_iova_alignment).
        if (context.GetOption(ContextOption.HugePages, ioas) == 0)
            throw new NotQuiescedException($"{ioas} has huge pages switched off, so that the kernel does not show whether a device is attached");
        return context.GetUsableIovas(ioas).Alignment == 1
            ? new DeviceQuiescence($"no device is attached to {ioas}")
            : throw new NotQuiescedException($"a device is attached to {ioas}");
    }

    /// <summary>The caller has stopped the devices by means that this library does not see: the guest suspended them, or the VMM did.</summary>
    /// <param name="how">By what means; goes into records and messages.</param>
    public static DeviceQuiescence Declared(string how)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(how);
        return new DeviceQuiescence(how);
    }

    internal static DeviceQuiescence Stopped(StoppedDevices devices) => new(devices.ToString());
}

/// <summary>Devices that were stopped for a change, and go on where they were on Dispose.</summary>
public sealed class StoppedDevices : IDisposable
{
    private readonly Stack<(VfioDevice Device, Action Resume, string How)> _stopped = new();

    private StoppedDevices()
    {
    }

    /// <summary>Proof for a change; valid until Dispose.</summary>
    public DeviceQuiescence Quiescence => DeviceQuiescence.Stopped(this);

    /// <summary>
    /// Stops devices: by their migration state where the driver has one, else by taking the bus mastership from a PCI device, which
    /// discards what the device was about to transfer and which its driver in the guest must be able to bear.
    /// </summary>
    /// <param name="devices">All that are attached to the address space.</param>
    /// <exception cref="NotQuiescedException">A device can be stopped neither way. Those before it go on.</exception>
    public static StoppedDevices Stop(params ReadOnlySpan<VfioDevice> devices)
    {
        var stopped = new StoppedDevices();
        try
        {
            foreach (var device in devices)
                stopped.Stop(device);
            return stopped;
        }
        catch
        {
            stopped.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_stopped.TryPop(out var one))
            one.Resume();
    }

    /// <inheritdoc/>
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"stopped: {string.Join(", ", _stopped.Select(one => $"{one.Device.Name} ({one.How})"))}");

    private void Stop(VfioDevice device)
    {
        if (device.GetMigrationSupport().HasFlag(VfioMigrationFlags.StopCopy))
        {
            var before = device.GetMigrationState();
            device.SetMigrationState(VfioMigrationState.Stop)?.Dispose();
            _stopped.Push((device, () => device.SetMigrationState(before)?.Dispose(), "migration state"));
        }
        else if (device.GetInfo().Flags.HasFlag(VfioDeviceFlags.Pci))
        {
            var before = device.GetPciBusMaster();
            device.SetPciBusMaster(false);
            _stopped.Push((device, () => device.SetPciBusMaster(before), "bus master"));
        }
        else
        {
            throw new NotQuiescedException($"{device.Name} has neither a migration state nor PCI's bus mastership to stop it by");
        }
    }
}

/// <summary>It is not certain that no device uses the memory.</summary>
/// <param name="reason">Why.</param>
public sealed class NotQuiescedException(string reason) : IOException($"Not quiesced: {reason}.");
