using System.Security.Cryptography;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Hosting;

public sealed class BinaryPolicyTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("cprsharp-test-").FullName;

    [Theory]
    [InlineData("/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-x86_64", true)]
    [InlineData("/usr/bin/qemu-system-*", "/usr/bin/qemu-system-x86_64", true)]
    [InlineData("/usr/bin/qemu-system-*", "/usr/bin/qemu-system-x86_64/evil", false)]
    [InlineData("/usr/bin/*", "/usr/bin/sub/qemu", false)]
    [InlineData("/opt/*/bin/qemu", "/opt/11.1/bin/qemu", true)]
    [InlineData("/opt/*/bin/qemu", "/opt/a/b/bin/qemu", false)]
    [InlineData("/opt/qemu/", "/opt/qemu/a/b", true)]
    [InlineData("/opt/qemu/", "/opt/qemu-evil/a", false)]
    [InlineData("/opt/qemu", "/opt/qemu/a", false)]
    [InlineData("/usr/bin/QEMU", "/usr/bin/qemu", false)]
    public void An_entry_means_a_path_a_pattern_or_a_directory(string entry, string path, bool matches) =>
        Assert.Equal(matches, BinaryPolicy.Matches(entry, path));

    [Fact]
    public void Symbolic_links_are_followed_wherever_they_are()
    {
        Directory.CreateDirectory(Path.Combine(_root, "real/deep"));
        File.WriteAllText(Path.Combine(_root, "real/deep/qemu"), "");
        File.CreateSymbolicLink(Path.Combine(_root, "directory"), "real/deep");
        File.CreateSymbolicLink(Path.Combine(_root, "file"), "directory/../deep/./qemu");
        File.CreateSymbolicLink(Path.Combine(_root, "loop"), "loop");

        Assert.Equal(Path.Combine(_root, "real/deep/qemu"), BinaryPolicy.RealPath(Path.Combine(_root, "directory/qemu")));
        Assert.Equal(Path.Combine(_root, "real/deep/qemu"), BinaryPolicy.RealPath(Path.Combine(_root, "file")));
        Assert.Equal(Path.Combine(_root, "loop"), BinaryPolicy.RealPath(Path.Combine(_root, "loop")));
        Assert.Equal(Path.Combine(_root, "absent"), BinaryPolicy.RealPath(Path.Combine(_root, "absent")));
    }

    [Fact]
    public void A_link_out_of_an_allowed_directory_is_not_allowed()
    {
        Directory.CreateDirectory(Path.Combine(_root, "allowed"));
        File.CreateSymbolicLink(Path.Combine(_root, "allowed/qemu"), "/bin/true");
        var policy = new BinaryPolicy(new SecurityOptions { Binaries = { _root + "/allowed/" } });

        Assert.Equal(BinaryPolicy.NotAllowed, Assert.Throws<UpdateException>(() => policy.Open(Path.Combine(_root, "allowed/qemu"))).Code);
    }

    [Fact]
    public void What_was_compared_is_what_is_given_back()
    {
        var path = Path.Combine(_root, "qemu");
        File.WriteAllText(path, "right");
        var digest = Convert.ToHexString(SHA256.HashData("right"u8));
        var policy = new BinaryPolicy(new SecurityOptions { Sha256 = { [path] = digest } });
        using var file = policy.Open(path);
        File.Delete(path);
        File.WriteAllText(path, "wrong");

        Assert.Equal(BinaryPolicy.WrongHash, Assert.Throws<UpdateException>(() => policy.Open(path)).Code);
        var bytes = new byte[5];
        RandomAccess.Read(file!, bytes, 0);
        Assert.Equal("right"u8, bytes);
    }

    [Fact]
    public void Without_settings_everything_is_allowed() => Assert.Null(new BinaryPolicy(new SecurityOptions()).Open("/bin/true"));

    public void Dispose() => Directory.Delete(_root, recursive: true);
}
