using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>Sets a supervisor's threads and those of its VMMs to real time when it asks for it: the lender of a <see cref="RealTimeLoan"/>.</summary>
internal sealed class RealTimeLender : IDisposable
{
    private readonly Socket _borrower;
    private readonly uint _user;
    private readonly Thread _thread;

    private RealTimeLender(Socket borrower, uint user)
    {
        _borrower = borrower;
        _user = user;
        _thread = new Thread(Serve) { IsBackground = true, Name = "real-time" };
        _thread.Start();
    }

    public static async Task<RealTimeLender> LendAsync(VmConnection vm, CancellationToken cancellationToken)
    {
        var (ours, theirs) = UnixSocket.Pair(SocketType.Seqpacket);
        var lender = new RealTimeLender(ours, vm.User);
        try
        {
            using (theirs)
                await vm.LendAsync(new JsonObject { ["real-time"] = true }, [theirs.SafeHandle], cancellationToken);
            return lender;
        }
        catch
        {
            lender.Dispose();
            throw;
        }
    }

    /// <summary>Of a message, what it asks for; null when it is none.</summary>
    internal static (int[] Processes, HashSet<int> Except)? Parse(ReadOnlySpan<byte> message)
    {
        var numbers = MemoryMarshal.Cast<byte, int>(message);
        return message.Length % sizeof(int) == 0 && numbers.Length > 1 && numbers[0] > 0 && numbers[0] < numbers.Length
            ? (numbers[1..(numbers[0] + 1)].ToArray(), [.. numbers[(numbers[0] + 1)..]])
            : null;
    }

    public void Dispose()
    {
        End(); // of the messages, to the thread
        _thread.Join();
        _borrower.Dispose();
    }

    private void End()
    {
        try
        {
            _borrower.Shutdown(SocketShutdown.Both);
        }
        catch (SocketException)
        {
            // The borrower has closed it.
        }
    }

    /// <summary>A thread of its own, in real time too: the supervisor waits for its answer.</summary>
    private void Serve()
    {
        PauseBoost? boost = null;
        try
        {
            Scheduling.SetAttributes(0, PauseBoost.RealTime);
            var message = new byte[RealTimeLoan.Longest];
            while (_borrower.Receive(message) is > 0 and var length)
            {
                boost?.Dispose();
                boost = Parse(message.AsSpan(0, length)) is { } asked && asked.Processes.All(IsTheBorrowers)
                    ? PauseBoost.TryBegin(asked.Processes, asked.Except, null)
                    : null;
                _borrower.Send([boost is null ? (byte)0 : (byte)1]);
            }
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            // Nobody asks any more, or we may not.
        }
        finally
        {
            boost?.Dispose(); // what the supervisor has not taken back itself
            End(); // it waits for no answer
        }
    }

    /// <summary>An unprivileged user gets nothing here for processes of another one.</summary>
    private bool IsTheBorrowers(int process) => process > 0 && ProcFs.Status(process).UserIds.Real == _user;
}
