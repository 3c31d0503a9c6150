using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Handover;

/// <summary>What a descriptor means to whoever receives it. The numbers travel: never change one.</summary>
public enum HandoverMeaning
{
    /// <summary>Something that only its name explains.</summary>
    Other = 0,

    /// <summary>An iommufd context.</summary>
    Context = 1,

    /// <summary>The journal of a context.</summary>
    Journal = 2,

    /// <summary>A VFIO device.</summary>
    Device = 3,

    /// <summary>Guest memory.</summary>
    Memory = 4,

    /// <summary>An eventfd, for interrupts or notifications.</summary>
    EventFd = 5,

    /// <summary>A queue of page faults or of a virtual IOMMU's events.</summary>
    Queue = 6,
}

/// <summary>A descriptor in a box, as everybody may know it.</summary>
/// <param name="Name">Unique in its box.</param>
/// <param name="Meaning">What it means.</param>
/// <param name="Kind">What kind of file it is.</param>
/// <param name="File">Which file it is; all anonymous inodes share one.</param>
public sealed record HandoverEntry(string Name, HandoverMeaning Meaning, DescriptorKind Kind, FileIdentity File)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Meaning} {Name} ({Kind})";
}

/// <summary>Which descriptors can never be handed over. Pure.</summary>
public static class HandoverRules
{
    /// <summary>Whether a descriptor can be handed over, to another process or across an exec.</summary>
    /// <param name="kind">What it is.</param>
    /// <param name="path">What the kernel calls it.</param>
    /// <returns>Null, or why not and what to do instead.</returns>
    public static string? Check(DescriptorKind kind, string path) => kind switch
    {
        DescriptorKind.KvmVm or DescriptorKind.KvmVcpu or DescriptorKind.KvmOther =>
            "KVM's objects are bound to the address space that made them (EIO anywhere else): the new VMM creates its own virtual machine and gets the state by migration",
        DescriptorKind.GuestMemfd =>
            "guest_memfd is bound to its virtual machine: the new VMM creates its own",
        DescriptorKind.Vhost =>
            "vhost is bound to the address space of its owner: stop the device, VHOST_RESET_OWNER, close it, and let the new VMM open its own",
        DescriptorKind.UserFaultFd =>
            "userfaultfd is bound to the address space that made it: end its use (postcopy) first; the new VMM registers its own",
        DescriptorKind.IoUring =>
            "io_uring can be neither sent (EINVAL) nor kept across an exec: drain it, and let the new VMM make its own ring",
        DescriptorKind.CharacterDevice when path is "/dev/kfd" =>
            "/dev/kfd is bound to its process (EBADF elsewhere, dead after an exec): checkpoint and restore with AMDKFD_IOC_CRIU_OP, or detach the GPU",
        DescriptorKind.SecretMemfd =>
            "memfd_secret cannot be given to devices; move its content",
        _ => null,
    };
}

/// <summary>A descriptor can never be handed over.</summary>
/// <param name="name">What it was called.</param>
/// <param name="path">What the kernel calls it.</param>
/// <param name="reason">Why, and what to do instead.</param>
public sealed class HandoverRefusedException(string name, string path, string reason) : IOException($"{name} ({path}) cannot be handed over: {reason}.")
{
    /// <summary>Why, and what to do instead.</summary>
    public string Reason { get; } = reason;
}
