using System.Globalization;
using CprSharp.Memfd;

namespace CprSharp.Iommufd;

/// <summary>
/// The kernel refused an ioctl of <c>/dev/iommu</c> or of a VFIO device. The message names ioctl, object, addresses, error, what
/// that error means for this ioctl, and what to do about it.
/// </summary>
public sealed class IommufdException : IOException
{
    /// <summary>Builds the exception.</summary>
    /// <param name="ioctl">The kernel's name, for example <c>IOMMU_IOAS_MAP_FILE</c>.</param>
    /// <param name="target">What it was called on, for example <c>Ioas 1</c>.</param>
    /// <param name="range">The addresses that it was about.</param>
    /// <param name="errno">The error number, positive.</param>
    public IommufdException(string ioctl, string target, IovaRange? range, int errno)
        : this(ioctl, target, range, errno, ErrnoAdvice.For(ioctl, errno))
    {
    }

    private IommufdException(string ioctl, string target, IovaRange? range, int errno, ErrnoAdvice advice)
        : this(ioctl, target, range, new SyscallException(ioctl, Subject(target, range), errno, $"{advice.Cause}; {advice.Remedy}"), advice)
    {
    }

    private IommufdException(string ioctl, string target, IovaRange? range, SyscallException error, ErrnoAdvice advice)
        : base(error.Message, error)
    {
        Ioctl = ioctl;
        Target = target;
        Range = range;
        Error = error;
        Cause = advice.Cause;
        Remedy = advice.Remedy;
    }

    /// <summary>The kernel's name of the call.</summary>
    public string Ioctl { get; }

    /// <summary>What it was called on.</summary>
    public string Target { get; }

    /// <summary>The addresses that it was about; null when it was about none.</summary>
    public IovaRange? Range { get; }

    /// <summary>The failed system call.</summary>
    public SyscallException Error { get; }

    /// <summary>The error number, positive.</summary>
    public int Errno => Error.Errno;

    /// <summary>What the error means for this call.</summary>
    public string Cause { get; }

    /// <summary>What the caller or the operator can do.</summary>
    public string Remedy { get; }

    private static string Subject(string target, IovaRange? range) =>
        range is { } addresses ? string.Create(CultureInfo.InvariantCulture, $"{target}, IOVA {addresses}") : target;
}
