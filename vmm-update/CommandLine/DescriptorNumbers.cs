using System.Text.RegularExpressions;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Descriptor numbers that a command line mentions.</summary>
internal static partial class DescriptorNumbers
{
    /// <summary>Numbers that an option names: <c>fd=</c>, <c>fds=</c>, <c>vhostfd=</c>, <c>/dev/fd/N</c>, <c>/proc/self/fd/N</c>, <c>fd:N</c>.</summary>
    public static IEnumerable<int> Mentioned(SpecOption option)
    {
        // Text that QEMU hands to the guest, or only shows.
        if (option.Value is null || option.Name.IsOneOf("append", "smbios", "name", "prom-env", "uuid", "msg", "kernel", "cpu", "smp"))
            yield break;
        foreach (Match match in Key().Matches(option.Value).Concat(Path().Matches(option.Value)))
        {
            foreach (string part in match.Groups["numbers"].Value.Split(':', StringSplitOptions.RemoveEmptyEntries))
            {
                if (QemuText.TryNumber(part, out int number))
                    yield return number;
            }
        }
        // addr.type=fd,addr.str=N of -netdev stream, -incoming and -audiodev, in both forms.
        if (AddressType().IsMatch(option.Value))
        {
            foreach (Match match in AddressText().Matches(option.Value))
            {
                if (QemuText.TryNumber(match.Groups["numbers"].Value, out int number))
                    yield return number;
            }
        }
    }

    [GeneratedRegex("""(?:^|[,{\s"'._-])(?:fd|fds|vhostfd|vhostfds|sock_fd|sock-fds)["']?\s*[=:]\s*["']?(?<numbers>[0-9]+(?::[0-9]+)*)""", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 1000)]
    private static partial Regex Key();

    [GeneratedRegex("""/(?:dev|proc/self)/fd/(?<numbers>[0-9]+)""", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 1000)]
    private static partial Regex Path();

    [GeneratedRegex("""type["']?\s*[=:]\s*["']?fd\b""", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 1000)]
    private static partial Regex AddressType();

    [GeneratedRegex("""str["']?\s*[=:]\s*["']?(?<numbers>[0-9]+)""", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 1000)]
    private static partial Regex AddressText();
}
