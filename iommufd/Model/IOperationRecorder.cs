namespace CprSharp.Iommufd.Model;

/// <summary>
/// Told of every call that changes a context, before and after. Told before, so that a crash in between leaves a doubt that can
/// be looked into, and never an area that nobody knows of.
/// </summary>
public interface IOperationRecorder
{
    /// <summary>A call is about to be made. An exception here prevents it.</summary>
    /// <param name="operation">The call.</param>
    /// <returns>What to name it by when it is over.</returns>
    ulong Begin(Operation operation);

    /// <summary>It succeeded. Must not throw: the call is made.</summary>
    /// <param name="sequence">What <see cref="Begin"/> returned.</param>
    /// <param name="answer">The kernel's answer; 0 where there is none.</param>
    void Done(ulong sequence, ulong answer);

    /// <summary>It failed and changed nothing. Must not throw.</summary>
    /// <param name="sequence">What <see cref="Begin"/> returned.</param>
    /// <param name="errno">The error number.</param>
    void Failed(ulong sequence, int errno);
}
