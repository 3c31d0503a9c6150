using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Settings from <c>/etc/cprsharp/cprsharp.json</c> and the environment (<c>CPRSHARP__Section__Key</c>), validated before anything is done.</summary>
internal static class Settings
{
    public const string File = "/etc/cprsharp/cprsharp.json";

    public const string EnvironmentPrefix = "CPRSHARP__";

    /// <summary>Services with validated options and logging.</summary>
    /// <exception cref="OptionsValidationException">A value is out of range.</exception>
    public static ServiceProvider Load(string file = File)
    {
        IConfigurationRoot configuration;
        try
        {
            configuration = new ConfigurationBuilder()
                .AddJsonFile(file, optional: true)
                .AddEnvironmentVariables(EnvironmentPrefix)
                .Build();
        }
        catch (Exception e) when (e is InvalidDataException or FormatException or IOException)
        {
            throw new OptionsValidationException("", typeof(UpdateOptions), [$"{file}: {e.InnerException?.Message ?? e.Message}"]);
        }

        var services = new ServiceCollection();
        services.AddSingleton<IConfiguration>(configuration);
        services.AddSingleton<IValidateOptions<UpdateOptions>, UpdateOptionsValidator>();
        services.AddSingleton<IValidateOptions<SecurityOptions>, SecurityOptionsValidator>();
        services.AddOptions<SecurityOptions>().Bind(configuration.GetSection(SecurityOptions.Section));
        services.AddSingleton<IValidateOptions<LibvirtOptions>, LibvirtOptionsValidator>();
        services.AddOptions<LibvirtOptions>().Bind(configuration.GetSection(LibvirtOptions.Section));
        services.AddOptions<UpdateOptions>().Bind(configuration.GetSection(UpdateOptions.Section));
        services.AddLogging(logging => AddOutput(logging.AddConfiguration(configuration.GetSection("Logging"))));
        var provider = services.BuildServiceProvider();
        try
        {
            _ = provider.GetRequiredService<IOptions<UpdateOptions>>().Value;
            _ = provider.GetRequiredService<IOptions<SecurityOptions>>().Value;
            _ = provider.GetRequiredService<IOptions<LibvirtOptions>>().Value;
            return provider;
        }
        catch (Exception e) when (e is OptionsValidationException or InvalidOperationException)
        {
            provider.Dispose();
            if (e is InvalidOperationException)
                throw new OptionsValidationException(UpdateOptions.Section, typeof(UpdateOptions), [e.Message]);
            throw;
        }
    }

    /// <summary>Lines on standard error; entries with fields where that is systemd's journal.</summary>
    private static void AddOutput(ILoggingBuilder logging)
    {
        if (JournalStream.IsStandardError && JournalLoggerProvider.TryCreate() is { } journal)
        {
            logging.AddProvider(journal);
            return;
        }

        logging
            .AddSimpleConsole(console =>
            {
                console.SingleLine = true;
                console.TimestampFormat = "yyyy-MM-ddTHH:mm:ss.fffZ ";
                console.UseUtcTimestamp = true;
            })
            .AddConsole(console => console.LogToStandardErrorThreshold = LogLevel.Trace);
    }
}

/// <summary>Checks <see cref="UpdateOptions"/> by its annotations.</summary>
[OptionsValidator]
internal sealed partial class UpdateOptionsValidator : IValidateOptions<UpdateOptions>;

/// <summary>Checks <see cref="LibvirtOptions"/> by its annotations.</summary>
[OptionsValidator]
internal sealed partial class LibvirtOptionsValidator : IValidateOptions<LibvirtOptions>;

/// <summary>The settings that a supervisor goes by.</summary>
internal sealed record SupervisorSettings(UpdateOptions Update, SecurityOptions Security)
{
    public static SupervisorSettings From(IServiceProvider services) =>
        new(services.GetRequiredService<IOptions<UpdateOptions>>().Value, services.GetRequiredService<IOptions<SecurityOptions>>().Value);
}
