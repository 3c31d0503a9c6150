using System.Globalization;

namespace CprSharp.VmmUpdate.Qemu;

/// <summary>A QEMU release, ordered.</summary>
/// <param name="Major">Major number.</param>
/// <param name="Minor">Minor number.</param>
/// <param name="Micro">Micro number.</param>
public readonly record struct QemuVersion(int Major, int Minor, int Micro) : IComparable<QemuVersion>
{
    /// <inheritdoc />
    public int CompareTo(QemuVersion other) => (Major, Minor, Micro).CompareTo((other.Major, other.Minor, other.Micro));

    /// <summary>Whether this release is the given one or a later one.</summary>
    public bool AtLeast(int major, int minor) => CompareTo(new QemuVersion(major, minor, 0)) >= 0;

    /// <summary>Whether both belong to the same feature release (major.minor).</summary>
    public bool SameFeatureRelease(QemuVersion other) => Major == other.Major && Minor == other.Minor;

    /// <inheritdoc />
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Major}.{Minor}.{Micro}");

    /// <summary>Orders two releases.</summary>
    public static bool operator <(QemuVersion left, QemuVersion right) => left.CompareTo(right) < 0;

    /// <summary>Orders two releases.</summary>
    public static bool operator >(QemuVersion left, QemuVersion right) => left.CompareTo(right) > 0;

    /// <summary>Orders two releases.</summary>
    public static bool operator <=(QemuVersion left, QemuVersion right) => left.CompareTo(right) <= 0;

    /// <summary>Orders two releases.</summary>
    public static bool operator >=(QemuVersion left, QemuVersion right) => left.CompareTo(right) >= 0;
}
