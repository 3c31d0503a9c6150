using CprSharp.Bench;
using CprSharp.Bench.Inside;
using CprSharp.Bench.Measures;

if (args is [IommufdInside.Command, .. var forInside])
{
    await IommufdInside.RunAsync(forInside);
    return 0;
}

BenchOptions options;
try
{
    options = BenchOptions.Parse(args);
}
catch (FormatException e)
{
    Console.Error.WriteLine(e.Message);
    Console.Error.WriteLine(BenchOptions.Usage);
    return 2;
}

var root = Components.FindRoot();
var components = Components.Find(root, options.Program);
var results = new Results(Console.Out);
var scratch = Directory.CreateTempSubdirectory("cprsharp-bench-").FullName;
try
{
    Host.Describe(components, results);
    if (options.Wants("footprint"))
        await new FootprintMeasure(components, options, scratch, results).RunAsync();
    if (options.Wants("qmp"))
        await new QmpMeasure(components, options, scratch, results).RunAsync();
    var pause = new PauseMeasure(components, options, scratch, results);
    if (options.Wants("pause"))
        await pause.CompareAsync();
    if (options.Wants("libvirt"))
        await new LibvirtMeasure(components, options, scratch, results).RunAsync();
    if (options.Wants("memory"))
        await pause.GrowWithMemoryAsync();
    if (options.Wants("devices"))
        await pause.GrowWithDevicesAsync();
    if (options.Wants("fleet"))
        await new FleetMeasure(components, options, scratch, results).RunAsync();
    if (options.Wants("iommufd"))
        await new IommufdMeasure(root, options, results).RunAsync();
}
finally
{
    Directory.Delete(scratch, recursive: true);
}

var output = options.Output ?? Path.Combine(root, "artifacts", "bench.json");
results.Save(output);
Console.WriteLine($"\nall of it: {Path.GetRelativePath(Environment.CurrentDirectory, output)}");
return 0;
