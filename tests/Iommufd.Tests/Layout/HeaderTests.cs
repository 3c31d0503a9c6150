using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using CprSharp.Iommufd.Interop;
using Xunit;

namespace CprSharp.Iommufd.Tests.Layout;

/// <summary>Every structure, constant and ioctl number, held by a C compiler against the newest linux/iommufd.h and linux/vfio.h.</summary>
public sealed partial class HeaderTests
{
    /// <summary>The ioctls of vfio.h that this library leaves out, and why.</summary>
    private static readonly Dictionary<string, string> LeftOut = new(StringComparer.Ordinal)
    {
        ["VFIO_GROUP_GET_STATUS"] = "groups: a device is opened by its character device here",
        ["VFIO_GROUP_SET_CONTAINER"] = "groups",
        ["VFIO_GROUP_UNSET_CONTAINER"] = "groups",
        ["VFIO_GROUP_GET_DEVICE_FD"] = "groups",
        ["VFIO_DEVICE_QUERY_GFX_PLANE"] = "a display's business",
        ["VFIO_DEVICE_GET_GFX_DMABUF"] = "a display's business",
        ["VFIO_DEVICE_IOEVENTFD"] = "the VMM's business, and the kernel keeps it across a handover",
        ["VFIO_MIG_GET_PRECOPY_INFO"] = "migration to another host",
        ["VFIO_IOMMU_ENABLE"] = "sPAPR",
        ["VFIO_IOMMU_DISABLE"] = "sPAPR",
        ["VFIO_IOMMU_DIRTY_PAGES"] = "an iommufd answers ENOTTY",
        ["VFIO_IOMMU_SPAPR_TCE_GET_INFO"] = "sPAPR",
        ["VFIO_EEH_PE_OP"] = "sPAPR",
        ["VFIO_IOMMU_SPAPR_REGISTER_MEMORY"] = "sPAPR",
        ["VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY"] = "sPAPR",
        ["VFIO_IOMMU_SPAPR_TCE_CREATE"] = "sPAPR",
        ["VFIO_IOMMU_SPAPR_TCE_REMOVE"] = "sPAPR",
    };

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public static TheoryData<string> Structures => [.. Types().Select(type => type.Name)];

    [Fact]
    public async Task Structures_and_numbers_are_those_of_the_newest_header()
    {
        var c = new StringBuilder(
            """
            #include <stddef.h>
            #include <linux/iommufd.h>
            #include <linux/vfio.h>
            #define SIZE(type, bytes) _Static_assert(sizeof(type) == bytes, "size of " #type)
            #define PREFIX(type, bytes) _Static_assert(sizeof(type) == bytes, "size of " #type " without its tail")
            #define AT(type, field, bytes, wide) _Static_assert(offsetof(type, field) == bytes && sizeof(((type *)0)->field) == wide, "place of " #type "." #field)
            #define IS(name, value) _Static_assert((unsigned long long)(name) == value, #name)

            """);
        foreach (var type in Types())
        {
            c.Append(CultureInfo.InvariantCulture, $"SIZE(struct {type.Name}, {SizeOf(type)});\n");
            foreach (var field in Fields(type))
                c.Append(CultureInfo.InvariantCulture, $"AT(struct {type.Name}, {field.Name}, {Marshal.OffsetOf(type, field.Name)}, {FieldBytes(field)});\n");
        }

        foreach (var constant in Constants())
            c.Append(CultureInfo.InvariantCulture, $"IS({constant.Name}, {constant.GetRawConstantValue()}ULL);\n");

        var (output, status) = await CompileAsync(c.ToString());

        Assert.True(status == 0, output);
        Assert.True(Types().Count() >= 50 && Constants().Count() >= 120, "the comparison has lost its subject");
    }

    [Fact]
    public async Task A_difference_is_found()
    {
        var (output, status) = await CompileAsync("#include <linux/iommufd.h>\n_Static_assert(sizeof(struct iommu_ioas_map) == 48, \"planted\");\n");

        Assert.NotEqual(0, status);
        Assert.Contains("planted", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("iommufd.h")]
    [InlineData("vfio.h")]
    public async Task No_ioctl_of_the_header_is_missing(string header)
    {
        var text = (await File.ReadAllTextAsync(Path.Combine(Headers(), "linux", header), Ct)).Replace("\\\n", " ", StringComparison.Ordinal);
        var ours = Constants().Select(constant => constant.Name).ToHashSet(StringComparer.Ordinal);
        var theirs = Ioctl().Matches(text).Select(match => match.Groups["name"].Value).ToList();

        Assert.NotEmpty(theirs);
        Assert.DoesNotContain(theirs, name => !ours.Contains(name) && !LeftOut.ContainsKey(name));
        Assert.DoesNotContain(theirs, name => ours.Contains(name) && LeftOut.ContainsKey(name));
    }

    [Theory]
    [MemberData(nameof(Structures))]
    public void There_is_no_padding(string structure)
    {
        var type = Types().Single(type => type.Name == structure);

        Assert.Equal(SizeOf(type), Fields(type).Sum(FieldBytes));
    }

    private static IEnumerable<Type> Types() => typeof(LibC).GetNestedTypes(BindingFlags.Public | BindingFlags.NonPublic)
        .Where(type => type.IsValueType && !type.IsEnum && (type.Name.StartsWith("iommu", StringComparison.Ordinal) || type.Name.StartsWith("vfio", StringComparison.Ordinal)));

    private static FieldInfo[] Fields(Type type) => type.GetFields(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance);

    private static IEnumerable<FieldInfo> Constants() => typeof(LibC).GetFields(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static)
        .Where(field => field.IsLiteral && (field.Name.StartsWith("IOMMU", StringComparison.Ordinal) || field.Name.StartsWith("VFIO", StringComparison.Ordinal)));

    private static int SizeOf(Type type) => Marshal.SizeOf(type);

    private static int FieldBytes(FieldInfo field) => field.GetCustomAttribute<FixedBufferAttribute>() is { } buffer
        ? buffer.Length * Marshal.SizeOf(buffer.ElementType)
        : Marshal.SizeOf(field.FieldType);

    private static string Headers()
    {
        var headers = Environment.GetEnvironmentVariable("CPRSHARP_KERNEL_HEADERS");
        if (!Directory.Exists(headers))
            Assert.Skip("The newest kernel's headers are not there: run this with integration-vm/with-components, after integration-vm/components headers.");
        if (!File.Exists("/usr/bin/cc"))
            Assert.Skip("No C compiler on this machine.");
        return headers;
    }

    private static async Task<(string Output, int Status)> CompileAsync(string source)
    {
        var headers = Headers();
        var architecture = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "aarch64" : "x86_64";
        var directory = Directory.CreateTempSubdirectory("cprsharp-headers-");
        try
        {
            var file = Path.Combine(directory.FullName, "headers.c");
            await File.WriteAllTextAsync(file, source, Ct);
            using var compiler = Process.Start(new ProcessStartInfo("/usr/bin/cc")
            {
                ArgumentList = { "-std=c11", "-fsyntax-only", "-isystem", headers, "-isystem", Path.Combine(headers, $"{architecture}-linux-gnu"), file },
                RedirectStandardError = true,
            })!;
            var output = await compiler.StandardError.ReadToEndAsync(Ct);
            await compiler.WaitForExitAsync(Ct);
            return (output, compiler.ExitCode);
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    [GeneratedRegex(@"^#define\s+(?<name>\w+)\s+_IO[RW]*\((?:IOMMUFD_TYPE|VFIO_TYPE)", RegexOptions.Multiline | RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Ioctl();
}
