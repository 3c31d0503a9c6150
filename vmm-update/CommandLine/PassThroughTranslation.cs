namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Passed-through devices: each gets the id by which QEMU hands it over and, where that is asked for, is opened by the
/// supervisor instead of QEMU.</summary>
/// <remarks>
/// QEMU looks a device's descriptor up by the device's id in what the old VMM hands over (<c>cpr_get_fd_param</c>), so one from the
/// command line is of use to the first VMM only. The IOMMU's is not handed over (<c>iommufd_backend_set_fd</c>): every VMM of the VM
/// needs the same one at the same number.
/// </remarks>
internal static class PassThroughTranslation
{
    private const string Driver = "vfio-pci";
    private const string Backend = "iommufd";

    public static void Apply(SpecDraft draft)
    {
        if (draft.Settings.Running)
            return;
        HashSet<string> used = [.. draft.Named("device", "object").Select(static option => OptionString.Parse(option, null)["id"]).OfType<string>()];
        draft.Rewrite(option => [option.Name switch
        {
            "device" => Device(draft, option, used),
            "object" => Object(draft, option),
            _ => option,
        }]);
    }

    private static SpecOption Device(SpecDraft draft, SpecOption option, HashSet<string> used)
    {
        OptionString device = OptionString.Parse(option, "driver");
        if (!device["driver"].Is(Driver))
            return option;
        if (device["id"] is not { Length: > 0 } id)
        {
            id = Enumerable.Range(0, int.MaxValue).Select(static n => $"hostdev{n}").First(used.Add);
            device = device.With("id", id);
            draft.Change($"The passed-through device {device["host"] ?? device["sysfsdev"] ?? ""} got the id {id}, by which QEMU hands it over.");
        }

        if (QemuText.TryNumber(device["fd"], out int given) && given > 2)
        {
            draft.TakeInherited(given);
            // QEMU does not need it beside fd=, but who looks at the VM from outside cannot tell else which device this is.
            if (!device.Has("host") && draft.Settings.DescribeDevice(given) is { } address)
                device = device.With("host", address);
            draft.Descriptors.Add(new PassedThroughDescriptor(given, id));
        }
        else if (draft.Settings.HoldsDevices && device.Has(Backend) && !device.Has("fd") && device["host"] is { } host)
        {
            var number = draft.TakeNumber();
            draft.Descriptors.Add(new PassedThroughDescriptor(number, id, host));
            draft.Change($"The passed-through device {id} is opened by the supervisor.");
            device = device.With("fd", QemuText.Number(number));
        }

        return option with { Value = device.ToString() };
    }

    private static SpecOption Object(SpecDraft draft, SpecOption option)
    {
        OptionString backend = OptionString.Parse(option, "qom-type");
        if (!draft.Settings.HoldsDevices || !backend["qom-type"].Is(Backend) || backend.Has("fd"))
            return option;
        var number = draft.TakeNumber();
        draft.Descriptors.Add(new IommufdDescriptor(number, backend["id"] ?? Backend));
        draft.Change($"The IOMMU of {backend["id"] ?? Backend} is held by the supervisor.");
        return option with { Value = backend.With("fd", QemuText.Number(number)).ToString() };
    }
}
