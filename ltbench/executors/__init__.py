"""How the cells of a sweep get run: here (`local`), by Slurm (`slurm`), or by what runs shell commands (`print`)."""
