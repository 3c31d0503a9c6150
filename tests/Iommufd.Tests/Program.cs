using System.Reflection;
using Xunit.Runner.InProc.SystemConsole;

namespace CprSharp.Iommufd.Tests;

/// <summary>The test run, or one role of a test: a method of a test class that another process carries out.</summary>
internal static class Program
{
    internal const string Role = "--role";

    private static async Task<int> Main(string[] arguments)
    {
        if (arguments is not [Role, var type, var method])
            return await ConsoleRunner.Run(arguments);
        try
        {
            var test = Type.GetType(type, throwOnError: true)!;
            var role = test.GetMethod(method, BindingFlags.Static | BindingFlags.NonPublic)!.Invoke(null, BindingFlags.DoNotWrapExceptions, null, null, null);
            if (role is Task task)
                await task;
            return 0;
        }
        catch (Exception e)
        {
            Console.WriteLine(e);
            return 1;
        }
    }
}
