"""The samples that come with the module, for Slicer's Sample Data module."""

from slicer.i18n import tr as _

from ..resources import resources_folder

CATEGORY = "MedInpaint"
SAMPLES = {  # picture: scan and lesion, each with its file in Resources/SampleData, its node's name and its SHA256
    "MSPatient26": (
        (
            "MSPatient26_T1.nii.gz",
            "MS patient",
            "a46a05129ab5010263d30812d1699460c116f803afc18ecdf983a162a0c5c4fc",
        ),
        (
            "MSPatient26_lesions.nii.gz",
            "MS patient lesions",
            "5a9cc6ffbe3a5d2df67fba4207c0585b2f02a5f9f7f31e0e7e3f57cc59c2c5ac",
        ),
    ),
    "HealthyHead": (
        (
            "HealthyHead_T1.nii.gz",
            "Healthy head",
            "66eeafb465559148e0222d4079558a8354eb09b9efabcc47cd5b8af6eed51907",
        ),
        (
            "HealthyHead_hole.nii.gz",
            "Healthy head hole",
            "2321c43d178db083b8af970dc4eae9819b147be5ca22cac954e152cfdfb28acc",
        ),
    ),
}


def registerSampleData():
    """Add the samples to the Sample Data module, under the names of their scans."""
    from SampleData import SampleDataLogic

    resources = resources_folder()
    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # from Slicer 5.12 on
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=_("MedInpaint"))
    for picture, files in SAMPLES.items():
        names, nodes, checksums = zip(*files, strict=True)
        SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=nodes[0],
            thumbnailFileName=str(resources / "Icons" / f"{picture}.png"),
            uris=[(resources / "SampleData" / name).as_uri() for name in names],
            fileNames=list(names),
            nodeNames=list(nodes),
            checksums=[f"SHA256:{checksum}" for checksum in checksums],
            loadFileTypes=["VolumeFile", "SegmentationFile"],
        )
