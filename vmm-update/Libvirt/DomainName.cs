using System.Security.Cryptography;
using System.Text;

namespace CprSharp.VmmUpdate.Libvirt;

/// <summary>The VM of a domain.</summary>
internal static class DomainName
{
    private const int Longest = 64;

    private const int DigestDigits = 8;

    /// <summary>
    /// The domain's own name where it can name a VM. libvirt allows nearly any; another gets '_' for what cannot, and a digest of the name,
    /// so that two never meet.
    /// </summary>
    public static string ToVmName(string domain)
    {
        ArgumentException.ThrowIfNullOrEmpty(domain);
        var allowed = string.Concat(domain.Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' or '+' ? c : '_'));
        if (allowed == domain && domain.Length <= Longest && char.IsAsciiLetterOrDigit(domain[0]))
            return domain;
        var stem = allowed[..Math.Min(allowed.Length, Longest - DigestDigits - 3)];
        var digest = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(domain)))[..DigestDigits];
        return char.IsAsciiLetterOrDigit(stem[0]) ? $"{stem}-{digest}" : $"vm{stem}-{digest}";
    }
}
