"""A real control plane for tests and the demo, without root and without a container engine.

    with Lab.start() as lab:
        lab.url, lab.ca_file, lab.kubeconfig             # admin: lab-admin in system:masters
        lab.admin.post(path, body, expect=201).body      # raw API calls; `status, body = lab.admin.get(path)`
        lab.api("dev")                                   # the same client as another user, by certificate
        lab.grant_role(namespace, "dev", "edit")
        lab.kubectl("get", "pods", as_="dev")            # stdout; `try_kubectl` for the CompletedProcess
        lab.kubeconfig_for("dev"), lab.service_account_kubeconfig(namespace, name)

        node = lab.node("n1")                            # the kubelet's part, as system:node:n1
        pod = node.run(pod)                              # bind, then Running
        node.token(pod, audience); node.request_token(pod, audience).status
        node.finish(pod); node.remove(pod)

        registry = lab.registry("referrers")             # or "plain", "private", "insecure"
        image = registry.repository("payments/api").push("v1", ImageSpec(entrypoint=["/app"]))
        key = lab.cosign.generate_key("release")
        lab.cosign.sign(registry, image, key, form=Form.CLASSIC)

        sigstore = lab.sigstore                          # Fulcio, timestamps, Rekor; see tests.lab.sigstore
        who = sigstore.issuers.github("acme/payments")   # or .gitlab(...), .email("dev@example.com")
        lab.cosign.sign_keyless(registry, image, who, sigstore)
        sigstore.trusted_root                            # trusted_root.json, as cosign makes it

        files = lab.ca.server("gate")                    # certificate and key for a server on 127.0.0.1
        lab.processes.start("gate", args, lab.folder / "logs" / "gate.log")   # ends with the lab

        lab.audit_events(verb="create", resource="pods", namespace=namespace)

In pytest: the fixtures `lab` (one per run) and `namespace` (one per test), see tests/conftest.py. Programs are
found, or built once, by `tests.lab.builder`; `python -m tests.lab` is the same from the shell.
"""
