namespace CprSharp.VmmUpdate.Update;

/// <summary>How far an update's switch-over has come. The values are stored.</summary>
internal enum SwitchStep : byte
{
    /// <summary>The guest runs on the old VMM.</summary>
    None = (byte)'0',

    /// <summary>The old VMM was asked to stop the guest and to send it.</summary>
    Pausing = (byte)'P',

    /// <summary>The new VMM may have run the guest: the old one never may again.</summary>
    Committing = (byte)'C',
}
