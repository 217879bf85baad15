"""The cluster as the person at the keyboard sees it: kubeconfigs, requests, the paths of our kinds."""
