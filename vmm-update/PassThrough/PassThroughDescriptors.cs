using CprSharp.Iommufd;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>Duplicates of a VMM's descriptors for its passed-through devices and the address spaces that they see.</summary>
internal sealed class PassThroughDescriptors : IDisposable
{
    private readonly List<(PassedThroughDevice Device, VfioDevice Handle)> _devices = [];
    private readonly List<(int Number, IommufdContext Context)> _contexts = [];

    private PassThroughDescriptors()
    {
    }

    public IReadOnlyList<(PassedThroughDevice Device, VfioDevice Handle)> Devices => _devices;

    /// <summary>With the descriptors' numbers in the VMM.</summary>
    public IReadOnlyList<(int Number, IommufdContext Context)> Contexts => _contexts;

    /// <exception cref="UpdateException">The descriptors may not be duplicated.</exception>
    public static PassThroughDescriptors Duplicate(PidFd vmm, IReadOnlyList<PassedThroughDevice> devices)
    {
        var duplicates = new PassThroughDescriptors();
        try
        {
            foreach (var descriptor in ProcFs.Descriptors(vmm.Pid))
            {
                if (descriptor.Info.Kind == DescriptorKind.Iommufd)
                    duplicates.AddContext(descriptor.Number, vmm.GetDescriptor(descriptor.Number));
                else if (descriptor.Info.Kind == DescriptorKind.VfioDevice && devices.FirstOrDefault(d => Is(d, descriptor.Info.Path)) is { } device)
                    duplicates._devices.Add((device, VfioDevice.Adopt(vmm.GetDescriptor(descriptor.Number), device.Name)));
            }

            return duplicates;
        }
        catch (SyscallException e) when (e.Errno is Errno.EPERM)
        {
            duplicates.Dispose();
            throw new UpdateException(
                "vfio-descriptors", $"the VMM's descriptors (pid {vmm.Pid}) may not be duplicated: {e.Message}", "run the supervisor as the VMM's user or as root; kernel.yama.ptrace_scope must allow it", e)
            {
                IsRefusal = true,
            };
        }
        catch
        {
            duplicates.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        foreach (var (_, context) in _contexts)
            context.Dispose();
        foreach (var (_, device) in _devices)
            device.Dispose();
    }

    /// <summary>A VMM that was given its iommufd (<c>fd=</c>) has it twice after an update: from the supervisor, and from the VMM before it.</summary>
    private void AddContext(int number, SafeFileHandle handle)
    {
        try
        {
            if (_contexts.Exists(c => IsSame(c.Context.Handle, handle)))
                handle.Dispose();
            else
                _contexts.Add((number, IommufdContext.Adopt(handle)));
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    private static bool IsSame(SafeFileHandle one, SafeFileHandle other)
    {
        try
        {
            return Descriptor.IsSameFile(one, other);
        }
        catch (SyscallException e) when (e.Errno is Errno.EINVAL)
        {
            return false; // a kernel that cannot tell cannot hand devices over either
        }
    }

    private static bool Is(PassedThroughDevice device, string path) =>
        device.Host.Length > 0 && Directory.Exists($"/sys/bus/pci/devices/{device.Host}/vfio-dev/{Path.GetFileName(path)}");
}
