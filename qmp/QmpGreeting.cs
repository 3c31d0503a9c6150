using System.Text.Json;

namespace CprSharp.Qmp;

/// <summary>What the VMM says first: its version and what it offers (qmp-spec.rst, "Server Greeting").</summary>
public sealed record QmpGreeting
{
    /// <summary>The capability for out-of-band execution.</summary>
    public const string OutOfBandCapability = "oob";

    /// <param name="major">QEMU's major version.</param>
    /// <param name="minor">QEMU's minor version.</param>
    /// <param name="micro">QEMU's micro version; 50 and above mean a development snapshot.</param>
    /// <param name="package">The distributor's own version text; may be empty.</param>
    /// <param name="capabilities">What is offered, for example <c>oob</c>.</param>
    public QmpGreeting(int major, int minor, int micro, string package, IReadOnlyList<string> capabilities)
    {
        Major = major;
        Minor = minor;
        Micro = micro;
        Package = package;
        Capabilities = capabilities;
    }

    /// <summary>QEMU's major version.</summary>
    public int Major { get; init; }

    /// <summary>QEMU's minor version.</summary>
    public int Minor { get; init; }

    /// <summary>QEMU's micro version; 50 and above mean a development snapshot.</summary>
    public int Micro { get; init; }

    /// <summary>The distributor's own version text; may be empty.</summary>
    public string Package { get; init; }

    /// <summary>What is offered, for example <c>oob</c>.</summary>
    public IReadOnlyList<string> Capabilities { get; init; }

    /// <summary>Whether out-of-band execution is offered.</summary>
    public bool OffersOutOfBand => Capabilities.Contains(OutOfBandCapability);

    /// <summary>The version as a comparable value.</summary>
    public Version Version => new(Major, Minor, Micro);

    /// <summary>Reads a greeting message.</summary>
    /// <exception cref="FormatException">It is not a QMP greeting.</exception>
    public static QmpGreeting Parse(JsonElement message)
    {
        try
        {
            var body = message.GetProperty("QMP");
            var version = body.GetProperty("version");
            var qemu = version.GetProperty("qemu");
            return new QmpGreeting(
                qemu.GetProperty("major").GetInt32(), qemu.GetProperty("minor").GetInt32(), qemu.GetProperty("micro").GetInt32(),
                version.TryGetProperty("package", out var package) ? package.GetString() ?? "" : "",
                // A capability that is not a string is one of the future; whoever does not know it ignores it.
                [.. body.GetProperty("capabilities").EnumerateArray()
                    .Where(c => c.ValueKind == JsonValueKind.String).Select(c => c.GetString()!)]);
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new FormatException("Not a QMP greeting: expected {\"QMP\": {\"version\": {\"qemu\": {major, minor, micro}}, \"capabilities\": […]}}.", e);
        }
    }
}
