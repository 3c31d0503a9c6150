using System.Text.Json;
using CprSharp.VmmUpdate.CommandLine;
using Xunit;
using static CprSharp.VmmUpdate.Tests.CommandLine.TestFacts;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

public sealed class TranslationTests
{
    private const string Machine = "-machine pc-q35-11.1,aux-ram-share=on,suppress-vmdesc=on,memory-backend=pc.ram ";
    private const string Ram = "-object memory-backend-file,id=pc.ram,size=134217728,mem-path=/proc/self/fd/200,share=on,x-use-canonical-path-for-ramblock-id=off ";

    /// <summary>Without a machine, RAM and a display of its own to look at.</summary>
    private const string Plain = "-M q35 -nodefaults -display none ";

    private static string First(string line, LaunchSettings? settings = null) => Shorten(Translate(Plain + line, settings: settings).RenderFirstStart());

    private static string Target(string line, LaunchSettings? settings = null) => Shorten(Translate(Plain + line, settings: settings).RenderTarget());

    private static string Shorten(IEnumerable<string> argv) =>
        Line(argv).Replace(Machine + Ram + "-nodefaults -display none", "", StringComparison.Ordinal).Trim();

    [Fact]
    public void A_blog_style_line_gets_held_ram_a_pinned_machine_and_a_served_qmp_socket()
    {
        VmSpec spec = Translate("-M q35 -m 2G -smp 2 -nographic -qmp unix:/run/q.sock,server,nowait -serial unix:/run/s.sock,server=on,wait=off disk.img");
        Assert.Equal("pc-q35-11.1", spec.MachineType);
        Assert.Equal(
            Machine +
            "-object memory-backend-file,id=pc.ram,size=2147483648,mem-path=/proc/self/fd/200,share=on,x-use-canonical-path-for-ramblock-id=off " +
            "-m 2G -smp 2 -nographic -chardev socket,id=serial0,server=on,wait=off,fd=201 -serial chardev:serial0 -hda disk.img",
            Line(spec.RenderFirstStart()));
        Assert.Equal([new ClientSocket("legacy-monitor0", new UnixAddress("/run/q.sock"))], spec.ClientSockets);
        Assert.Equal(
            [new GuestRamDescriptor(200, "pc.ram", 2L << 30), new ConsoleDescriptor(201, "serial0", new UnixAddress("/run/s.sock"))],
            spec.Descriptors);
    }

    [Fact]
    public void A_spec_survives_json()
    {
        VmSpec spec = Translate("-M q35 -nic user,hostfwd=tcp::2222-:22 -vnc :1 -s -qmp tcp:localhost:4444,server -pidfile /p -daemonize -serial tcp::9,server -netdev tap,id=t,fd=30");
        string json = JsonSerializer.Serialize(spec, VmSpecJson.Default.VmSpec);
        VmSpec read = JsonSerializer.Deserialize(json, VmSpecJson.Default.VmSpec)!;
        Assert.Equal(json, JsonSerializer.Serialize(read, VmSpecJson.Default.VmSpec));
        Assert.Equal(spec.RenderTarget(), read.RenderTarget());
        Assert.Equal(spec.Descriptors, read.Descriptors);
        Assert.Equal(spec.ClientSockets, read.ClientSockets);
    }

    [Theory]
    [InlineData("", "-machine pc-i440fx-11.1,aux-ram-share=on,suppress-vmdesc=on,memory-backend=pc.ram")]
    [InlineData("-M pc-q35-7.2", "-machine pc-q35-7.2,aux-ram-share=on,suppress-vmdesc=on,memory-backend=pc.ram")]
    [InlineData("-machine accel=kvm:tcg -M q35 -machine usb=off,hpet=off", "-machine pc-q35-11.1,accel=kvm:tcg,usb=off,hpet=off,aux-ram-share=on,suppress-vmdesc=on,memory-backend=pc.ram")]
    [InlineData("-M pc -machine type=q35,suppress_vmdesc=off -no-acpi", "-machine pc-q35-11.1,suppress-vmdesc=off,aux-ram-share=on,acpi=off,memory-backend=pc.ram")]
    public void Machine_options_become_one_pinned_machine(string line, string expected) =>
        Assert.Equal(expected, Translate("-nodefaults -display none " + line).Options.Single(static o => o.Name == "machine").ToString());

    [Fact]
    public void What_a_binary_does_not_have_is_not_added() =>
        Assert.StartsWith("-machine pc-q35-7.2,suppress-vmdesc=on,memory-backend=pc.ram -object", Line(Translate("-M q35", Qemu7).RenderFirstStart()), StringComparison.Ordinal);

    [Fact]
    public void A_rollback_to_an_older_binary_leaves_out_what_only_the_newer_one_has() =>
        Assert.StartsWith("-machine pc-q35-7.2,suppress-vmdesc=on,memory-backend=pc.ram -object",
            Line(Translate("-M pc-q35-7.2").RenderTarget(Qemu7)), StringComparison.Ordinal);

    [Theory]
    [InlineData("-M pc-q35-7.2", true)]
    [InlineData("-M pc-q35-7.2,aux-ram-share=off", false)]
    public void A_newer_binary_gets_what_the_first_one_did_not_have(string line, bool on)
    {
        VmSpec spec = Translate(line, Qemu7);
        Assert.Equal(on, Line(spec.RenderTarget(Qemu11)).Contains("aux-ram-share=on", StringComparison.Ordinal));
        Assert.Contains("suppress-vmdesc=on", Line(spec.RenderTarget(Qemu11 with { MachineProperties = new HashSet<string>() })), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("-m 2G", 2L << 30)]
    [InlineData("-m 2048", 2L << 30)]
    [InlineData("-m size=2G,slots=2,maxmem=8G", 2L << 30)]
    [InlineData("-m 1.5G", 3L << 29)]
    [InlineData("-m 1G -m slots=2,maxmem=8G", 1L << 30)]
    [InlineData("-m 0", 128L << 20)]
    [InlineData("", 128L << 20)]
    [InlineData("-machine memory.size=1G", 1L << 30)]
    [InlineData("-m 1000001b", 1007616L)]
    public void Ram_has_the_size_that_qemu_gives_it(string line, long size)
    {
        VmSpec spec = Translate(Plain + line);
        Assert.Equal(new GuestRamDescriptor(200, "pc.ram", size), Assert.Single(spec.Descriptors));
        Assert.Contains($"size={size},mem-path=/proc/self/fd/200", Line(spec.RenderTarget()), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("memory-backend-ram,id=m0,size=1G", "memory-backend-file,id=m0,size=1G,x-use-canonical-path-for-ramblock-id=off,mem-path=/proc/self/fd/200,share=on", null)]
    [InlineData("memory-backend-ram,id=m0,size=1G,share=off,merge=off,host-nodes=0,policy=bind",
        "memory-backend-file,id=m0,size=1G,share=on,merge=off,host-nodes=0,policy=bind,x-use-canonical-path-for-ramblock-id=off,mem-path=/proc/self/fd/200", null)]
    [InlineData("memory-backend-memfd,id=m0,size=1G,hugetlb=on,hugetlbsize=2M,seal=on,prealloc=on",
        "memory-backend-file,id=m0,size=1G,prealloc=on,mem-path=/proc/self/fd/200,share=on", 2L << 20)]
    [InlineData("memory-backend-memfd,id=m0,size=1G,hugetlb=on", "memory-backend-file,id=m0,size=1G,mem-path=/proc/self/fd/200,share=on", 2L << 20)]
    [InlineData("""{"qom-type":"memory-backend-memfd","id":"m0","x-use-canonical-path-for-ramblock-id":false,"share":true,"size":1073741824}""",
        """{"qom-type":"memory-backend-file","id":"m0","x-use-canonical-path-for-ramblock-id":false,"share":true,"size":1073741824,"mem-path":"/proc/self/fd/200"}""", null)]
    [InlineData("memory-backend-file,id=m0,size=1G,mem-path=/dev/hugepages,share=on,prealloc=on", "memory-backend-file,id=m0,size=1G,mem-path=/proc/self/fd/200,share=on,prealloc=on", 2L << 20)]
    [InlineData("memory-backend-file,id=m0,size=1G,mem-path=/srv/dir,share=on", "memory-backend-file,id=m0,size=1G,mem-path=/proc/self/fd/200,share=on", null)]
    [InlineData("memory-backend-file,id=m0,size=1G,mem-path=/huge1G,share=on", "memory-backend-file,id=m0,size=1G,mem-path=/proc/self/fd/200,share=on", 1L << 30)]
    public void A_backend_moves_to_held_memory(string backend, string expected, long? hugePage)
    {
        var settings = new LaunchSettings
        {
            DescribePath = static path => path switch
            {
                "/srv/dir" => new HostPath(HostPathKind.Directory),
                "/huge1G" => new HostPath(HostPathKind.Directory, 1L << 30),
                _ => default,
            },
        };
        VmSpec spec = Translate(["-M", "q35,memory-backend=m0", "-object", backend], settings: settings);
        Assert.Equal(expected, spec.Options.Single(o => o.Name == "object").Value);
        Assert.Equal(new GuestRamDescriptor(200, "m0", 1L << 30, hugePage), Assert.Single(spec.Descriptors));
    }

    [Fact]
    public void The_target_does_not_touch_every_page()
    {
        VmSpec spec = Translate("-M q35,memory-backend=m0 -object memory-backend-ram,id=m0,size=1G,prealloc=on,prealloc-threads=4 -mem-prealloc");
        Assert.Contains("prealloc=on", Line(spec.RenderFirstStart()), StringComparison.Ordinal);
        Assert.DoesNotContain("prealloc", Line(spec.RenderTarget()), StringComparison.Ordinal);
    }

    [Fact]
    public void Memory_in_a_named_shared_file_stays_but_is_not_thrown_away_by_the_old_vmm()
    {
        VmSpec spec = Translate("-M q35,memory-backend=m0 -object memory-backend-file,id=m0,size=1G,mem-path=/dev/shm/vm1,share=on,discard-data=on");
        Assert.Empty(spec.Descriptors);
        Assert.Contains("-object memory-backend-file,id=m0,size=1G,mem-path=/dev/shm/vm1,share=on -", Line(spec.RenderFirstStart()) + " -", StringComparison.Ordinal);
    }

    [Fact]
    public void Numa_backends_take_the_place_of_default_ram()
    {
        VmSpec spec = Translate("-M q35 -m 2G -object memory-backend-ram,id=a,size=1G -object memory-backend-ram,id=b,size=1G -numa node,memdev=a -numa node,memdev=b");
        Assert.Equal(["a", "b"], spec.Descriptors.OfType<GuestRamDescriptor>().Select(d => d.Id));
        Assert.DoesNotContain("memory-backend=", Line(spec.RenderFirstStart()), StringComparison.Ordinal);
    }

    [Fact]
    public void A_mem_path_gives_way_to_held_memory_of_the_same_page_size()
    {
        var settings = new LaunchSettings { DescribePath = static _ => new HostPath(HostPathKind.Directory, 2L << 20) };
        VmSpec spec = Translate(Plain + "-m 1G -mem-path /dev/hugepages -mem-prealloc", settings: settings);
        Assert.Equal(new GuestRamDescriptor(200, "pc.ram", 1L << 30, 2L << 20), Assert.Single(spec.Descriptors));
        Assert.DoesNotContain("mem-path /dev", Line(spec.RenderFirstStart()), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("-chardev socket,id=c,path=/s,server=on,wait=off -device x,chardev=c", "-chardev socket,id=c,server=on,wait=off,fd=201 -device x,chardev=c", null)]
    [InlineData("-chardev socket,id=c,path=/s,server=on", "-chardev socket,id=c,server=on,fd=201,wait=off", null)]
    [InlineData("-chardev socket,id=c,path=/s,server=on -device x,chardev=c", "-chardev socket,id=c,server=on,fd=201,wait=on -device x,chardev=c", "-chardev socket,id=c,server=on,fd=201,wait=off -device x,chardev=c")]
    [InlineData("-chardev socket,id=c,host=0.0.0.0,port=4000,server,nowait,telnet=on,ipv4=on", "-chardev socket,id=c,server=on,wait=off,telnet=on,fd=201", null)]
    [InlineData("-serial telnet:localhost:4000,server,nowait", "-chardev socket,id=serial0,server=on,wait=off,telnet=on,fd=201 -serial chardev:serial0", null)]
    [InlineData("-serial mon:unix:/s,server=on,wait=off", "-chardev socket,id=serial0,server=on,wait=off,mux=on,fd=201 -serial chardev:serial0 -mon chardev=serial0,mode=readline", null)]
    [InlineData("-serial none -serial file:/a,,b", "-serial none -chardev file,id=serial1,path=/a,,,,b -serial chardev:serial1", "-serial none -chardev file,id=serial1,path=/a,,,,b,append=on -serial chardev:serial1")]
    [InlineData("-serial file:/log", "-chardev file,id=serial0,path=/log -serial chardev:serial0", "-chardev file,id=serial0,path=/log,append=on -serial chardev:serial0")]
    [InlineData("-debugcon file:/log", "-chardev file,id=debugcon,path=/log -debugcon chardev:debugcon", "-chardev file,id=debugcon,path=/log,append=on -debugcon chardev:debugcon")]
    [InlineData("-monitor tcp::5555,server,nowait", "-chardev socket,id=legacy-monitor0,server=on,wait=off,fd=201 -mon chardev=legacy-monitor0,mode=readline", null)]
    [InlineData("-monitor none -serial null -parallel none", "-monitor none -serial null -parallel none", null)]
    [InlineData("-monitor chardev:c -chardev null,id=c", "-mon chardev=c,mode=readline -chardev null,id=c", null)]
    [InlineData("-chardev null,id=c,logfile=/l", "-chardev null,id=c,logfile=/l", "-chardev null,id=c,logfile=/l,logappend=on")]
    [InlineData("-chardev socket,id=c,fd=30,server=on", "-chardev socket,id=c,fd=30,server=on,wait=on", "-chardev socket,id=c,fd=30,server=on,wait=off")]
    [InlineData("-chardev pty,id=c,path=/link", "-chardev socket,id=c,fd=201,server=on,wait=off", null)]
    [InlineData("-chardev pty,id=c,path=/link -device x,chardev=c", "-chardev pty,id=c,path=/link -device x,chardev=c", "-chardev pty,id=c -device x,chardev=c")]
    public void Character_devices(string line, string first, string? target)
    {
        Assert.Equal(first, First(line));
        Assert.Equal(target ?? first, Target(line));
    }

    [Theory]
    [InlineData("-chardev socket,id=c,path=/s,server=on,abstract=on,tight=off", "unix /s abstract loose")]
    [InlineData("-chardev socket,id=c,host=::1,port=http,to=99,server=on,ipv6", "tcp ::1 http 99  True")]
    [InlineData("-serial tcp::4000,server", "tcp  4000   ")]
    public void A_listener_is_held_at_its_address(string line, string expected)
    {
        EndpointAddress address = Translate(Plain + line).Descriptors.OfType<ConsoleDescriptor>().Single().Address;
        Assert.Equal(expected, address switch
        {
            UnixAddress unix => $"unix {unix.Path} {(unix.Abstract ? "abstract" : "path")} {(unix.Tight ? "tight" : "loose")}",
            TcpAddress tcp => $"tcp {tcp.Host} {tcp.Port} {tcp.To} {tcp.Ipv4} {tcp.Ipv6}",
            _ => "?",
        });
    }

    [Theory]
    [InlineData("-netdev tap,id=t,ifname=tap7,script=no,downscript=no", "-netdev tap,id=t,fd=201", "interface tap7   True False")]
    [InlineData("-netdev tap,id=t,vnet_hdr=off,vhost=off", "-netdev tap,id=t,vhost=off,fd=201", "interface  /etc/qemu-ifup /etc/qemu-ifdown False False")]
    [InlineData("-netdev tap,id=t,queues=2,script=/s,downscript=/d", "-netdev tap,id=t,fds=201:203", "interface  /s /d True True;interface  /s /d True True")]
    [InlineData("-nic bridge,br=br1,model=e1000", "-nic tap,model=e1000,fd=201", "helper  br1")]
    [InlineData("-netdev tap,id=t,helper=/h", "-netdev tap,id=t,fd=201", "helper /h br0")]
    [InlineData("-netdev tap,id=t,fds=30:31", "-netdev tap,id=t,fds=30:31", "inherited;inherited")]
    public void Taps_are_held(string line, string rendered, string sources)
    {
        VmSpec spec = Translate("-M q35 -nodefaults -display none " + line);
        Assert.EndsWith(rendered, Line(spec.RenderFirstStart()), StringComparison.Ordinal);
        Assert.Equal(spec.RenderFirstStart(), spec.RenderTarget());
        Assert.Empty(spec.InheritedDescriptors);
        Assert.Equal(sources, string.Join(';', spec.Descriptors.OfType<TapDescriptor>().Select(static t => t.Source switch
        {
            TapInterface i => $"interface {i.Name} {i.Script} {i.DownScript} {i.VnetHeader} {i.MultiQueue}",
            TapHelper h => $"helper {h.Helper} {h.Bridge}",
            _ => "inherited",
        })));
    }

    [Theory]
    [InlineData("-serial unix:/s,server -monitor telnet::5,server,nowait", "serial0 wait;legacy-monitor0 telnet monitor")]
    [InlineData("-serial mon:unix:/s,server,nowait", "serial0-base")]
    [InlineData("-serial pty -device virtio-serial -device virtserialport,chardev=c -chardev socket,id=c,path=/c,server=on,wait=off", "c;serial0")]
    [InlineData("-chardev socket,id=c,path=/c,server=on,wait=off,tls-creds=t", "")]
    [InlineData("-chardev socket,id=c,path=/c,server=on,wait=off -netdev vhost-user,id=n,chardev=c", "")]
    public void Consoles_are_served_where_only_bytes_go_through(string line, string consoles) =>
        Assert.Equal(consoles, string.Join(';', Translate(Plain + line).Descriptors.OfType<ConsoleDescriptor>().OrderBy(static c => c.Chardev, StringComparer.Ordinal).Reverse().OrderBy(static c => c.Chardev.Length)
            .Select(static c => $"{c.Chardev}{(c.Wait ? " wait" : "")}{(c.Telnet ? " telnet" : "")}{(c.Monitor ? " monitor" : "")}")));

    public static TheoryData<string, ClientSocket> QmpSockets => new()
    {
        { "-qmp unix:/q,server=on,wait=off", new ClientSocket("legacy-monitor0", new UnixAddress("/q")) },
        { "-qmp unix:/q,server", new ClientSocket("legacy-monitor0", new UnixAddress("/q"), Wait: true) },
        { "-qmp-pretty tcp:localhost:4444,server,nowait", new ClientSocket("legacy-monitor0", new TcpAddress("localhost", "4444"), Pretty: true) },
        { "-chardev socket,id=q,path=/q,server=on,wait=off -mon chardev=q,mode=control,id=mon0", new ClientSocket("mon0", new UnixAddress("/q")) },
        { "-chardev socket,id=q,fd=29,server=on,wait=off -mon chardev=q,id=monitor,mode=control", new ClientSocket("monitor", new DescriptorAddress(29)) },
        { "-chardev socket,id=q,path=/q,reconnect=5 -mon q,mode=control", new ClientSocket("q", new UnixAddress("/q"), Listen: false, ReconnectMilliseconds: 5000) },
        { "-chardev socket,id=q,host=h,port=1,server=on,wait=off,tls-creds=t -mon q,mode=control", new ClientSocket("q", new TcpAddress("h", "1"), Arguments: "tls-creds=t") },
    };

    [Theory]
    [MemberData(nameof(QmpSockets))]
    public void Qmp_is_served_by_the_supervisor(string line, ClientSocket expected)
    {
        VmSpec spec = Translate(Plain + line);
        Assert.Equal(expected, Assert.Single(spec.ClientSockets));
        Assert.DoesNotContain(spec.Options, static o => o.Name is "mon" or "chardev" or "qmp");
        Assert.DoesNotContain(spec.Descriptors, static d => d is ListenerDescriptor);
    }

    [Theory]
    [InlineData("-qmp stdio")]
    [InlineData("-qmp pty")]
    [InlineData("-mon chardev=nowhere,mode=control")]
    [InlineData("-readconfig vm.cfg")]
    [InlineData("-serial frob:x")]
    [InlineData("-object memory-backend-ram,size=1G")]
    [InlineData("-object {\"qom-type\"")]
    [InlineData("-mem-path /x -machine memory-backend=m")]
    [InlineData("-daemonize -serial stdio")]
    [InlineData("-m lots")]
    [InlineData("-vnc nonsense")]
    public void What_cannot_be_supervised_is_refused_with_the_option_and_a_fix(string line)
    {
        CommandLineException refusal = Assert.Throws<CommandLineException>(() => Translate(Plain + line));
        Assert.NotEmpty(refusal.Option);
        Assert.NotEmpty(refusal.Fix);
    }

    [Theory]
    [InlineData("-M q35 -nographic", "-serial mon:stdio")]
    [InlineData("-M q35 -nographic -serial file:/l", "-chardev stdio,id=legacy-monitor0 -mon chardev=legacy-monitor0,mode=readline")]
    [InlineData("-M q35 -nographic -qmp unix:/q,server,nowait", "")]
    [InlineData("-M q35 -vnc :1", "-chardev vc,id=legacy-monitor0,cols=80,rows=24 -mon chardev=legacy-monitor0,mode=readline")]
    [InlineData("-M q35 -display none", "")]
    [InlineData("-M q35 -display none -vnc :1 -monitor none", "")]
    public void The_default_monitor_is_kept_beside_the_supervisors(string line, string expected)
    {
        string rendered = Line(Translate(line).RenderFirstStart());
        if (expected.Length > 0)
            Assert.EndsWith(expected, rendered, StringComparison.Ordinal);
        else
            Assert.DoesNotContain("-mon chardev", rendered, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("-object iommufd,id=i -device vfio-pci,host=0000:03:00.0,iommufd=i", false, "-object iommufd,id=i -device vfio-pci,host=0000:03:00.0,iommufd=i,id=hostdev0", "")]
    [InlineData("-device virtio-rng,id=hostdev0 -device vfio-pci,host=03:00.0", true, "-device virtio-rng,id=hostdev0 -device vfio-pci,host=03:00.0,id=hostdev1", "")]
    [InlineData("-object iommufd,id=i -device vfio-pci,host=03:00.0,iommufd=i,id=n", true, "-object iommufd,id=i,fd=201 -device vfio-pci,host=03:00.0,iommufd=i,id=n,fd=202", "iommufd i 201;device n 202 03:00.0")]
    [InlineData("""-object {"qom-type":"iommufd","id":"i"} -device {"driver":"vfio-pci","host":"03:00.0","iommufd":"i","id":"n"}""", true,
        """-object {"qom-type":"iommufd","id":"i","fd":"201"} -device {"driver":"vfio-pci","host":"03:00.0","iommufd":"i","id":"n","fd":"202"}""", "iommufd i 201;device n 202 03:00.0")]
    [InlineData("-object iommufd,id=i,fd=9 -device vfio-pci,fd=10,iommufd=i,id=n", true, "-object iommufd,id=i,fd=9 -device vfio-pci,fd=10,iommufd=i,id=n,host=0000:0a:00.0", "device n 10 ;inherited 9")]
    public void Passed_through_devices_have_an_id_and_are_opened_by_the_supervisor_where_wanted(string line, bool holds, string rendered, string descriptors)
    {
        VmSpec spec = Translate(Plain + line, settings: LaunchSettings.Default with { HoldsDevices = holds, DescribeDevice = static number => $"0000:{number:x2}:00.0" });
        Assert.Equal(rendered, Shorten(spec.RenderFirstStart()));
        Assert.Equal(spec.RenderFirstStart(), spec.RenderTarget());
        Assert.Equal(descriptors, string.Join(';', spec.Descriptors.OrderBy(static d => d.Number).Select(static d => d switch
        {
            IommufdDescriptor i => $"iommufd {i.Object} {i.Number}",
            PassedThroughDescriptor p => $"device {p.Device} {p.Number} {p.Host}",
            _ => "",
        }).Concat(spec.InheritedDescriptors.Select(static n => $"inherited {n}")).Where(static d => d.Length > 0)));
    }

    [Fact]
    public void Held_descriptors_avoid_the_users_numbers()
    {
        VmSpec spec = Translate(Plain + "-netdev tap,id=t,fds=200:201,vhost=off -add-fd fd=202,set=1 -chardev file,id=c,path=/dev/fd/203 -append fd=204 -serial unix:/s,server");
        Assert.Equal([204, 205, 200, 201], spec.Descriptors.Select(static d => d.Number));
        Assert.Equal([206, 207], spec.Descriptors.OfType<TapDescriptor>().Select(static t => t.Spare));
        Assert.Equal([202, 203], spec.InheritedDescriptors);
    }

    [Theory]
    [InlineData("-netdev user,id=n0,hostfwd=tcp::2222-:22,hostfwd=udp::53-:53", "-netdev user,id=n0", "hostfwd_add n0 tcp::2222-:22")]
    [InlineData("-nic user,model=e1000,hostfwd=tcp::2222-:22", "-nic user,model=e1000,id=user0", "hostfwd_add user0 tcp::2222-:22")]
    [InlineData("-nic model=e1000,hostfwd=tcp::2222-:22", "-nic model=e1000,type=user,id=user0", "hostfwd_add user0 tcp::2222-:22")]
    [InlineData("""-netdev {"type":"user","id":"n0","hostfwd":[{"str":"tcp::2222-:22"}]}""", """-netdev {"type":"user","id":"n0"}""", "hostfwd_add n0 tcp::2222-:22")]
    [InlineData("-s", "", "gdbserver tcp::1234")]
    [InlineData("-gdb unix:/g,server", "", "gdbserver unix:/g,server")]
    public void A_port_that_two_cannot_bind_is_opened_after_commit(string line, string target, string command)
    {
        VmSpec spec = Translate(Plain + line);
        Assert.Equal(target, Shorten(spec.RenderTarget()));
        AfterCommitAction action = spec.AfterCommit[0];
        Assert.Equal("human-monitor-command", action.Command);
        Assert.Equal(command, OptionString.Parse(action.Arguments)["command-line"]);
    }

    [Theory]
    [InlineData("-vnc :1,password-secret=s", "-vnc none,password-secret=s", """{"type":"vnc","addresses":[{"type":"inet","host":"","port":"5901"}]}""")]
    [InlineData("-display vnc=127.0.0.1:0,to=9,ipv4=on", "-vnc none", """{"type":"vnc","addresses":[{"type":"inet","host":"127.0.0.1","port":"5900","to":5909,"ipv4":true}]}""")]
    [InlineData("-vnc unix:/run/vnc.sock", "-vnc none", """{"type":"vnc","addresses":[{"type":"unix","path":"/run/vnc.sock"}]}""")]
    [InlineData("-vnc [::1]:5,websocket=on", "-vnc none", """{"type":"vnc","addresses":[{"type":"inet","host":"::1","port":"5905"}]}""")]
    public void Vnc_listens_again_after_commit(string line, string target, string arguments)
    {
        VmSpec spec = Translate(Plain + line);
        Assert.Equal(target, Shorten(spec.RenderTarget()));
        Assert.Equal(("display-update", arguments), (spec.AfterCommit[0].Command, spec.AfterCommit[0].Arguments));
    }

    [Fact]
    public void The_vnc_display_that_qemu_opens_by_itself_is_spelt_out()
    {
        VmSpec spec = Translate("-M q35 -nodefaults");
        Assert.EndsWith("-vnc localhost:0,to=99,id=default", Line(spec.RenderFirstStart()), StringComparison.Ordinal);
        Assert.EndsWith("-vnc none,id=default", Line(spec.RenderTarget()), StringComparison.Ordinal);
        Assert.NotNull(Translate("-M q35 -nodefaults", Qemu11 with { Displays = new HashSet<string> { "gtk" } }).Finding("display-window"));
    }

    [Fact]
    public void What_starts_the_guest_is_for_the_first_vmm_only()
    {
        VmSpec spec = Translate(Plain + "-S -incoming tcp::1 -loadvm s -preconfig -daemonize -pidfile /run/p -D /log");
        Assert.Equal("-D /log.%d", Shorten(spec.RenderTarget()));
        Assert.Equal("-S -incoming tcp::1 -loadvm s -preconfig -D /log", Shorten(spec.RenderFirstStart()));
        Assert.True(spec.Daemonize);
        Assert.Equal("/run/p", spec.PidFile);
    }

    [Theory]
    [InlineData("-netdev tap,id=t0,ifname=tap0,script=no", "tap-held", FindingSeverity.Pass, "t0")]
    [InlineData("-netdev bridge,id=b0,br=br0", "tap-held", FindingSeverity.Pass, "b0")]
    [InlineData("-netdev tap,id=t0,fd=9,vhost=on,vhostfd=10", "vhost", FindingSeverity.Fail, "t0")]
    [InlineData("-netdev tap,id=t0,fd=9", "tap-held", FindingSeverity.Pass, "t0")]
    [InlineData("-netdev vhost-user,id=v,chardev=c -chardev socket,id=c,path=/v", "vhost-user", FindingSeverity.Fail, "v")]
    [InlineData("-netdev socket,id=s,listen=:1234", "network-port", FindingSeverity.Fail, "s")]
    [InlineData("-netdev socket,id=s,connect=h:1234", "network-reconnect", FindingSeverity.Warn, "s")]
    [InlineData("-netdev stream,id=s,server=off,addr.type=unix,addr.path=/run/passt.sock", "network-reconnect", FindingSeverity.Warn, "s")]
    [InlineData("-netdev stream,id=s,server=on,addr.type=inet,addr.host=h,addr.port=1", "network-port", FindingSeverity.Fail, "s")]
    [InlineData("-netdev user,id=u", "user-network", FindingSeverity.Warn, "u")]
    [InlineData("-device vhost-user-fs-pci,chardev=c,tag=t,id=fs0", "vhost-user", FindingSeverity.Fail, "fs0")]
    [InlineData("-device vhost-vsock-pci,guest-cid=3", "vhost", FindingSeverity.Fail, "vhost-vsock-pci")]
    [InlineData("-virtfs local,path=/s,mount_tag=host0,security_model=none", "9p", FindingSeverity.Warn, "host0")]
    [InlineData("-tpmdev emulator,id=tpm0,chardev=c", "tpm", FindingSeverity.Fail, "tpm0")]
    [InlineData("-snapshot", "snapshot", FindingSeverity.Fail, "-snapshot")]
    [InlineData("-drive file=a.qcow2,snapshot=on,id=d", "snapshot", FindingSeverity.Fail, "d")]
    [InlineData("-drive file=fat:rw:/tmp,format=raw,id=d", "vvfat", FindingSeverity.Fail, "d")]
    [InlineData("-spice port=5930", "display-spice", FindingSeverity.Fail, "-spice port=5930")]
    [InlineData("-display gtk", "display-window", FindingSeverity.Warn, "display")]
    [InlineData("-display curses", "display-curses", FindingSeverity.Fail, "display")]
    [InlineData("-cpu host,-vmx", "cpu-model", FindingSeverity.Warn, "-cpu host")]
    [InlineData("-object memory-backend-file,id=nv,mem-path=/srv/nv.img,size=1G,share=off -device nvdimm,memdev=nv", "private-file", FindingSeverity.Fail, "nv")]
    [InlineData("-object memory-backend-epc,id=sgx,size=64M", "memory-backend", FindingSeverity.Fail, "sgx")]
    [InlineData("-object sev-guest,id=sev0,cbitpos=47 -machine confidential-guest-support=sev0", "confidential-guest", FindingSeverity.Fail, "sev0")]
    [InlineData("-machine aux-ram-share=off", "aux-ram-share", FindingSeverity.Warn, "machine")]
    [InlineData("-icount shift=auto,rr=record,rrfile=r", "record-replay", FindingSeverity.Fail, "-icount")]
    [InlineData("-sandbox on,spawn=deny", "sandbox", FindingSeverity.Pass, "-sandbox on,spawn=deny")]
    [InlineData("-serial stdio", "stdio", FindingSeverity.Warn, "serial")]
    [InlineData("-serial pty", "chardev-served", FindingSeverity.Pass, "serial0")]
    [InlineData("-chardev socket,id=c,path=/s", "chardev-client", FindingSeverity.Warn, "c")]
    [InlineData("-vnc :1,password=on", "vnc-password", FindingSeverity.Warn, "vnc :1")]
    public void A_finding_names_its_object(string line, string id, FindingSeverity severity, string subject)
    {
        SpecFinding? finding = Translate(Plain + line).Finding(id);
        Assert.Equal((severity, subject), (finding?.Severity, finding?.Object));
        Assert.NotEmpty(finding!.Evidence);
        if (severity == FindingSeverity.Fail)
            Assert.NotEmpty(finding.Fix);
    }

    [Theory]
    [InlineData("-M q35 -m 1G -display none -serial unix:/s,server=on,wait=off -drive file=a.img,if=virtio -netdev user,id=n -device virtio-net-pci,netdev=n -monitor none")]
    [InlineData("-M q35 -m 1G -nographic -object memory-backend-file,id=m,size=1G,mem-path=/dev/shm/m,share=on -machine memory-backend=m")]
    public void Translating_a_translation_changes_nothing_more(string line)
    {
        VmSpec once = Translate(line);
        VmSpec twice = Translate(once.RenderFirstStart());
        Assert.Equal(once.RenderFirstStart(), twice.RenderFirstStart());
    }

    [Theory]
    [InlineData("-runas u -chroot /c", "-run-with user=u -run-with chroot=/c", "-runas u -chroot /c")]
    [InlineData("-run-with user=u,chroot=/c,async-teardown=on", "-run-with user=u,chroot=/c,async-teardown=on", "-runas u -chroot /c -async-teardown")]
    [InlineData("-chardev socket,id=c,path=/s,reconnect=2", "-chardev socket,id=c,path=/s,reconnect-ms=2000", "-chardev socket,id=c,path=/s,reconnect=2")]
    public void A_target_is_spoken_to_in_its_own_dialect(string line, string newer, string older)
    {
        VmSpec spec = Translate("-M pc-q35-7.2 -nodefaults -display none " + line);
        Assert.EndsWith(newer, Line(spec.RenderTarget(Qemu11)), StringComparison.Ordinal);
        Assert.EndsWith(older, Line(spec.RenderTarget(Qemu7)), StringComparison.Ordinal);
    }
}
