"""Virtual machines that Vagrant makes on libvirt, driven through python-vagrant."""
