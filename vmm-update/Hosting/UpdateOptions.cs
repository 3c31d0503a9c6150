using System.ComponentModel.DataAnnotations;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Settings of the update itself: section <c>Update</c>.</summary>
public sealed class UpdateOptions
{
    /// <summary>The section's name.</summary>
    public const string Section = "Update";

    /// <summary>The engine when none is asked for: <c>auto</c>, <c>transfer</c>, <c>shared-ram</c> or <c>exec</c>.</summary>
    [RegularExpression("^(auto|transfer|shared-ram|exec)$", ErrorMessage = "Update:Engine must be auto, transfer, shared-ram or exec")]
    public string Engine { get; set; } = "auto";

    /// <summary>Whether a guardian waits beside the supervisor and takes the VM over when it dies.</summary>
    public bool Guardian { get; set; } = true;

    /// <summary>
    /// Whether both VMMs and the supervisor get real-time scheduling for the milliseconds of the pause (needs CAP_SYS_NICE or RLIMIT_RTPRIO), and
    /// no processor sleeps meanwhile (needs write access to /dev/cpu_dma_latency).
    /// </summary>
    public bool PauseBoost { get; set; } = true;

    /// <summary>How long the preparation may take while the guest runs, in seconds.</summary>
    [Range(1, 3600)]
    public int PrepareDeadlineSeconds { get; set; } = 60;

    /// <summary>How long the guest may be paused before the update is given up and the old VMM resumed, in milliseconds.</summary>
    [Range(50, 600_000)]
    public int PauseDeadlineMs { get; set; } = 5000;

    /// <summary>How long the way back, and the end of the old VMM, may take, in seconds.</summary>
    [Range(1, 600)]
    public int RollbackDeadlineSeconds { get; set; } = 20;
}
