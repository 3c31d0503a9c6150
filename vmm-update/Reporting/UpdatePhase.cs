namespace CprSharp.VmmUpdate.Reporting;

/// <summary>The phases of an update, in order. The names are those of logs, JSON and reports.</summary>
public enum UpdatePhase
{
    /// <summary>Read only: QMP, <c>/proc</c>, descriptors.</summary>
    Inspect,

    /// <summary>Pure: an inspection in, a plan or blockers out.</summary>
    Plan,

    /// <summary>Everything that can be done while the guest runs.</summary>
    Prepare,

    /// <summary>From the request to switch over until the old VMM has stopped the guest.</summary>
    Pause,

    /// <summary>Device state travels from the old to the new VMM.</summary>
    Transfer,

    /// <summary>The old VMM has reported completion and runs nothing any more; where it could not be continued after that, the new one is seen to be whole.</summary>
    Verify,

    /// <summary>The supervisor's <c>cont</c> on the new VMM, which takes effect when all is loaded, until the guest runs.</summary>
    Commit,

    /// <summary>The old VMM is ended and what it held is released.</summary>
    Retire,

    /// <summary>The way back to the old VMM, from any phase before Commit.</summary>
    Rollback,
}
