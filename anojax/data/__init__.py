"""Reading pictures, textures and masks; procedural samples; writing runs."""
