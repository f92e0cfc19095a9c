// A module in the form of nf-core's. It has not been run by Nextflow yet; its commands have, by tests/deploy.
process NUCLEIEDGE_INFER {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    // The image starts nuclei-infer by itself, as a user who may not write here; Nextflow starts a shell. It has no ps,
    // which Nextflow needs for -with-trace and -with-report.
    container "${params.nucleiedge_container ?: 'nuclei-edge:0.1.0'}"
    containerOptions {
        [docker: '--entrypoint= --user $(id -u):$(id -g)',
         podman: '--entrypoint= --user $(id -u):$(id -g) --userns keep-id'][workflow.containerEngine] ?: ''
    }

    input:
    tuple val(meta), path(images, stageAs: 'images/*')

    output:
    tuple val(meta), path("${prefix}/labels/**.tif")   , emit: labels
    tuple val(meta), path("${prefix}/overlays/**.png") , emit: overlays, optional: true
    tuple val(meta), path("${prefix}/nuclei.csv")      , emit: nuclei
    tuple val(meta), path("${prefix}/images.csv")      , emit: images
    tuple val(meta), path("${prefix}/provenance.json") , emit: provenance
    path "versions.yml"                                , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    prefix     = task.ext.prefix ?: "${meta.id}"
    def memory = task.memory ? "--max-memory ${task.memory.toMega()}MiB" : ''
    """
    nuclei-infer images \\
        --out ${prefix} \\
        --threads ${task.cpus} \\
        ${memory} \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        nuclei-edge: \$(python -c 'from importlib.metadata import version; print(version("nuclei-edge"))')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}/labels ${prefix}/overlays
    touch ${prefix}/labels/image.tif ${prefix}/overlays/image.png
    touch ${prefix}/nuclei.csv ${prefix}/images.csv ${prefix}/provenance.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        nuclei-edge: \$(python -c 'from importlib.metadata import version; print(version("nuclei-edge"))')
    END_VERSIONS
    """
}
