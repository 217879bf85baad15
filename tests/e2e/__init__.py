"""Countersign as its users have it: a chart installed by Helm, services as pods of the cluster that they guard.

The tests know a kubeconfig and a registry that the cluster pulls from, nothing else. Where they get them:

    make e2e                                  the lab with its real node (Linux, root)
    make e2e KUBECONFIG=F IMAGE=HOST/NAME:TAG any cluster; REGISTRY=HOST/PREFIX for the workloads' images
    make e2e CLUSTER=kind                     a kind cluster, made for the run (needs a container engine)

    cluster     the API by kubeconfig, kubectl, waiting
    registries  where the images of workloads are pushed and signed
    release     the chart, by Helm's own library
    scene       a governed namespace with workloads, and a relying party beside it
    conftest    the fixtures: one cluster, one installation for all
"""
