using System.Globalization;
using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;
using StateMemfd = CprSharp.Memfd.Memfd;

namespace CprSharp.VmmUpdate.Replacement;

/// <summary>The supervisor's state between two programs: JSON in a memfd that nobody can change any more.</summary>
internal static class StateMemory
{
    /// <summary>Says to the next program which descriptor it is.</summary>
    public const string Variable = "CPRSHARP_SUPERVISOR_STATE";

    private const Seals All = Seals.Write | Seals.Shrink | Seals.Grow | Seals.Seal;

    public static SafeFileHandle Write(SupervisorState state)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(state, SupervisorStateJson.Default.SupervisorState);
        var memory = StateMemfd.Create("cprsharp-state", json.Length);
        RandomAccess.Write(memory, json, 0);
        StateMemfd.AddSeals(memory, All);
        return memory;
    }

    /// <summary>The descriptor that this program was started with; null when it was started afresh. Its children do not learn of it.</summary>
    public static int? Descriptor()
    {
        if (Environment.GetEnvironmentVariable(Variable) is not { Length: > 0 } text)
            return null;
        Environment.SetEnvironmentVariable(Variable, null);
        return int.Parse(text, NumberStyles.None, CultureInfo.InvariantCulture);
    }

    /// <exception cref="UpdateException">It is not such a state, or of another form.</exception>
    public static SupervisorState Read(int number)
    {
        using var memory = ProgramReplacement.Take(number);
        var info = DescriptorInfo.Of(memory);
        if (info.Kind != DescriptorKind.Memfd || (StateMemfd.GetSeals(memory) & All) != All)
            throw new UpdateException("supervisor-state", $"descriptor {number} ({info.Path}) is not a sealed supervisor state", "do not set " + Variable);
        var json = new byte[info.Size];
        RandomAccess.Read(memory, json, 0);
        SupervisorState state;
        try
        {
            state = JsonSerializer.Deserialize(json, SupervisorStateJson.Default.SupervisorState)!;
        }
        catch (Exception e) when (e is JsonException or NotSupportedException)
        {
            throw new UpdateException("supervisor-state", $"the supervisor's state cannot be read: {e.Message}", "replace it by a version of cprsharp that fits", e);
        }

        return state.Schema is >= SupervisorState.OldestSchema and <= SupervisorState.CurrentSchema
            ? state
            : throw new UpdateException(
                "supervisor-state", $"the supervisor's state has schema {state.Schema}; this cprsharp reads {SupervisorState.OldestSchema} to {SupervisorState.CurrentSchema}", "");
    }
}
