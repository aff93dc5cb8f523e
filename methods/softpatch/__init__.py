"""SoftPatch: PatchCore whose memory bank leaves out outlying patches and weighs the others."""
