using System.Collections.Immutable;
using CprSharp.Memfd;
using Microsoft.Extensions.Options;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Who may ask for what: section <c>Security</c>.</summary>
public sealed class SecurityOptions
{
    /// <summary>The section's name.</summary>
    public const string Section = "Security";

    /// <summary>A group, by name or number, whose members may use the VMs' QMP sockets beside their owner and root. They can do to a VM all that QMP can. Default: none.</summary>
    public string? Group { get; set; }

    /// <summary>
    /// Binaries that a VM may be updated to: absolute paths, in which <c>*</c> and <c>?</c> stand for characters of one name, or
    /// directories, which end with a slash and mean everything below them. What counts is where a path leads to, symbolic links
    /// followed. Default: all.
    /// </summary>
    public IList<string> Binaries { get; } = [];

    /// <summary>SHA-256 of binaries by path, 64 hexadecimal digits: a binary of that path with another content is not used.</summary>
    public IDictionary<string, string> Sha256 { get; } = new Dictionary<string, string>(StringComparer.Ordinal);

    /// <summary>The group's number; null for none.</summary>
    internal uint? GroupId() => string.IsNullOrEmpty(Group) ? null : FileGroup.Find(Group);
}

/// <summary>Checks <see cref="SecurityOptions"/>.</summary>
internal sealed class SecurityOptionsValidator : IValidateOptions<SecurityOptions>
{
    private const int DigestDigits = 64;

    public ValidateOptionsResult Validate(string? name, SecurityOptions options)
    {
        var failures = Failures(options).ToImmutableArray();
        return failures.IsEmpty ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(failures);
    }

    private static IEnumerable<string> Failures(SecurityOptions options)
    {
        if (!string.IsNullOrEmpty(options.Group) && options.GroupId() is null)
            yield return $"Security:Group: there is no group '{options.Group}'";
        foreach (var binary in options.Binaries.Where(b => !IsAbsolute(b)))
            yield return $"Security:Binaries: '{binary}' is not an absolute path";
        foreach (var (path, digest) in options.Sha256)
        {
            if (!IsAbsolute(path))
                yield return $"Security:Sha256: '{path}' is not an absolute path";
            if (digest is null || digest.Length != DigestDigits || !digest.All(char.IsAsciiHexDigit))
                yield return $"Security:Sha256: '{digest}' of {path} is not {DigestDigits} hexadecimal digits";
        }
    }

    private static bool IsAbsolute(string? path) => path is ['/', ..] && !path.Split('/').Any(p => p is "." or "..");
}
