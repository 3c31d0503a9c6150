using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>A VMM's migration capabilities and parameters as they were found, so that an update that fails leaves them as it found them.</summary>
internal sealed class MigrationSettings
{
    private readonly Dictionary<string, bool> _capabilities;
    private readonly Dictionary<string, JsonNode?> _parameters;

    private MigrationSettings(Dictionary<string, bool> capabilities, Dictionary<string, JsonNode?> parameters)
    {
        _capabilities = capabilities;
        _parameters = parameters;
    }

    public static async Task<MigrationSettings> ReadAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var capabilities = await vmm.ExecuteAsync("query-migrate-capabilities", cancellationToken);
        var parameters = await vmm.ExecuteAsync("query-migrate-parameters", cancellationToken);
        return new MigrationSettings(
            capabilities.EnumerateArray().ToDictionary(c => c.GetProperty("capability").GetString()!, c => c.GetProperty("state").GetBoolean(), StringComparer.Ordinal),
            parameters.EnumerateObject().ToDictionary(p => p.Name, p => ToNode(p.Value), StringComparer.Ordinal));
    }

    /// <summary>Capabilities that differ from those of a VMM in which nobody has set any: libvirt sets <c>events</c> once, when it connects.</summary>
    public IReadOnlyList<string> Changed { get; private init; } = [];

    /// <summary>These, but as another VMM of the same VM has them.</summary>
    public MigrationSettings With(MigrationSettings other) =>
        new(
            _capabilities.ToDictionary(c => c.Key, c => other._capabilities.GetValueOrDefault(c.Key, c.Value), StringComparer.Ordinal),
            _parameters.ToDictionary(p => p.Key, p => other._parameters.GetValueOrDefault(p.Key, p.Value), StringComparer.Ordinal))
        {
            Changed = [.. _capabilities.Where(c => other._capabilities.GetValueOrDefault(c.Key, c.Value) != c.Value).Select(c => c.Key)],
        };

    public static Task SetCapabilitiesAsync(Vmm vmm, IEnumerable<(string Name, bool On)> wanted, CancellationToken cancellationToken)
    {
        var list = new JsonArray();
        foreach (var (name, on) in wanted)
            list.Add((JsonNode)new JsonObject { ["capability"] = name, ["state"] = on });
        return vmm.ExecuteAsync("migrate-set-capabilities", new JsonObject { ["capabilities"] = list }, cancellationToken);
    }

    /// <summary>What an update sets that would spoil a later migration to another host, set back to QEMU's defaults; for when what was there before is not known.</summary>
    public static async Task ResetAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        await SetCapabilitiesAsync(vmm, [("x-ignore-shared", false), ("return-path", false), ("pause-before-switchover", false)], cancellationToken);
        var known = await vmm.ExecuteAsync("query-migrate-parameters", cancellationToken);
        var defaults = new JsonObject { ["downtime-limit"] = 300, ["max-bandwidth"] = 128L << 20 };
        if (known.TryGetProperty("mode", out _))
            defaults["mode"] = "normal";
        await vmm.ExecuteAsync("migrate-set-parameters", defaults, cancellationToken);
    }

    /// <summary>Sets what is named back to what was read.</summary>
    public async Task RestoreAsync(Vmm vmm, IEnumerable<string> capabilities, IEnumerable<string> parameters, CancellationToken cancellationToken)
    {
        await SetCapabilitiesAsync(vmm, capabilities.Where(_capabilities.ContainsKey).Select(c => (c, _capabilities[c])), cancellationToken);
        var old = new JsonObject();
        foreach (var name in parameters)
        {
            if (_parameters.TryGetValue(name, out var value))
                old[name] = value?.DeepClone();
        }

        if (old.Count > 0)
            await vmm.ExecuteAsync("migrate-set-parameters", old, cancellationToken);
    }

    private static JsonNode? ToNode(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => JsonObject.Create(element),
        JsonValueKind.Array => JsonArray.Create(element),
        _ => JsonValue.Create(element),
    };
}

/// <summary>The settings of both VMMs of an update before it changed them.</summary>
internal sealed class MigrationSettingsKeeper
{
    private readonly Dictionary<Vmm, MigrationSettings> _before = [];
    private MigrationSettings? _ofOld;

    /// <summary>Reads the old VMM's.</summary>
    public async Task ReadOldAsync(Vmm vmm, CancellationToken cancellationToken) =>
        _before[vmm] = _ofOld = await MigrationSettings.ReadAsync(vmm, cancellationToken);

    /// <summary>Reads the new VMM's: nobody has set anything there, so it gets the old one's where the guest goes to it.</summary>
    public async Task ReadNewAsync(Vmm vmm, CancellationToken cancellationToken) =>
        _before[vmm] = (await MigrationSettings.ReadAsync(vmm, cancellationToken)).With(_ofOld!);

    /// <summary>Sets back what is named, and what clients had set; nothing if the VMM's settings were not yet read, and so not changed.</summary>
    public Task RestoreAsync(Vmm vmm, IEnumerable<string> capabilities, IEnumerable<string> parameters, CancellationToken cancellationToken) =>
        _before.TryGetValue(vmm, out var before)
            ? before.RestoreAsync(vmm, [.. capabilities.Union(before.Changed)], parameters, cancellationToken)
            : Task.CompletedTask;
}
