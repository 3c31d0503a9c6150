using CprSharp.VmmUpdate.Supervision;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Supervision;

public sealed class ProcessMatcherTests
{
    [Theory]
    [InlineData(null, null, false)]
    [InlineData("libvirt-4a (enforce)", "libvirt-4a (enforce)", false)]
    [InlineData("libvirt-4a (enforce)", "unconfined", true)]
    [InlineData("libvirt-4a (enforce)", null, true)]
    [InlineData("system_u:system_r:svirt_t:s0:c1,c2", "system_u:system_r:svirt_t:s0:c3,c4", true)]
    public void A_new_VMM_with_another_label_is_refused(string? old, string? fresh, bool isRefused)
    {
        var refusal = ProcessMatcher.Mislabelled(old, fresh, "/opt/q");
        Assert.Equal(isRefused, refusal is { IsRefusal: true, Code: "security-label" });
        if (refusal is not null)
            Assert.Contains("/opt/q", refusal.Message, StringComparison.Ordinal);
    }
}
