namespace CprSharp.VmmUpdate.Update;

/// <summary>An update cannot go on. Carries what the report says about it.</summary>
public sealed class UpdateException(string code, string message, string fix, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>Stable identifier of the cause.</summary>
    public string Code { get; } = code;

    /// <summary>Whether nothing failed, but the new VMM showed that it does not fit this VM.</summary>
    public bool IsRefusal { get; init; }

    /// <summary>Whether nobody can say on which VMM the guest is.</summary>
    public bool LeavesStateUnknown { get; init; }

    /// <summary>What the operator can change.</summary>
    public string Fix { get; } = fix;
}
