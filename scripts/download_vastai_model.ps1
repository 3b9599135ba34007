#Requires -Version 5.1
<#
.SYNOPSIS
    Brings a trained model home from a Vast.ai instance, verifies it, and only then offers to destroy the instance.

.DESCRIPTION
    A thin wrapper over the harness. "harness download" checks that the remote file exists, downloads it with
    progress, resumes a broken download, and compares size and SHA-256 with the remote file. Only when that has
    succeeded does "harness destroy" ask whether the instance may go; it re-reads the local file first and refuses
    without a verified one. With -WhatIf nothing is destroyed; with -Confirm PowerShell asks as well.

    It logs in as scp would: with your SSH agent, ~/.ssh/config and the usual keys, then with the harness's own key.
    A host key in known_hosts must be shown; a first one is recorded and required from then on.

    An instance that no job on this machine has rented is destroyed only with -JobFile, which says what its training
    should have been: "harness adopt --instance-id N" writes one. The download needs none.

    The script itself deletes nothing, and needs nothing but the harness on PATH: README.md says how to install it.

.PARAMETER InstanceId
    The instance's number at Vast.ai.

.PARAMETER Port
    The port of its SSH server.

.PARAMETER SshHost
    The name or address of its SSH server, such as ssh5.vast.ai.

.PARAMETER RemotePath
    The model file on the instance, or a pattern that names exactly one.

.PARAMETER LocalPath
    The folder to bring it to. It is made when it does not exist.

.PARAMETER JobFile
    For an instance that no job on this machine has rented: the job file that says what its training should have
    been. The finished run and the model are judged by it; without it such an instance is not destroyed.
    "harness adopt --instance-id N" writes one.

.PARAMETER Key
    The SSH key file to log in with, and no other.

.PARAMETER User
    The user on the instance; without it the one of ~/.ssh/config, else root.

.PARAMETER Over
    The size that the file must exceed, such as 150kB, for a model that is meant to have another size than the 7B
    model: without it a Q8_0 file must exceed 5 GB, a Q4_K_M file 3 GB.

.EXAMPLE
    .\scripts\download_vastai_model.ps1 -InstanceId 1234567 -Port 20022 -SshHost ssh5.vast.ai

    Downloads and verifies the model, then asks before the instance is destroyed.

.EXAMPLE
    .\scripts\download_vastai_model.ps1 1234567 20022 ssh5.vast.ai -LocalPath 'D:\my models\forex-r1-v3' -WhatIf

    Downloads and verifies the model, and says what would happen then; the instance is kept.

.EXAMPLE
    harness adopt --instance-id 1234567
    .\scripts\download_vastai_model.ps1 1234567 20022 ssh5.vast.ai -JobFile .\adopted-1234567.toml

    The same for an instance that was rented by hand, with the file that the first line has written: it can be destroyed.

.EXAMPLE
    powershell -ExecutionPolicy Bypass -File .\scripts\download_vastai_model.ps1 1234567 20022 ssh5.vast.ai

    The same where PowerShell runs no scripts.

.OUTPUTS
    None. The exit code is the harness's: 0 when all went well, 3 or 4 when the file is not the whole model or that
    cannot be told, 5 when destroying was refused, 8 when the instance
    could not be reached, 9 when the file could not be brought home whole.
#>
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'Medium')]
param(
    [Parameter(Mandatory = $true, Position = 0)]
    [ValidateRange(1, 9223372036854775807)]
    [long] $InstanceId,

    [Parameter(Mandatory = $true, Position = 1)]
    [ValidateRange(1, 65535)]
    [int] $Port,

    [Parameter(Mandatory = $true, Position = 2)]
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9.:-]*$')]
    [string] $SshHost,

    [ValidateNotNullOrEmpty()]
    [string] $RemotePath = '/workspace/vastai_llm_training/models/output/final/*.gguf',

    [ValidateNotNullOrEmpty()]
    [string] $LocalPath = (Join-Path -Path (Get-Location).ProviderPath -ChildPath 'models'),

    [string] $JobFile = '',

    [string] $Key = '',

    [ValidatePattern('^[A-Za-z0-9._-]*$')]
    [string] $User = '',

    [ValidatePattern('^[A-Za-z0-9. ]*$')]
    [string] $Over = ''
)

Set-StrictMode -Version Latest
# A failed download must reach the line that reads its exit code. With 'Stop', Windows PowerShell ends the script at the
# first line on standard error where that is redirected, and PowerShell 7.4 can make the exit code an exception.
$ErrorActionPreference = 'Continue'
$PSNativeCommandUseErrorActionPreference = $false

if ($JobFile -and -not (Test-Path -LiteralPath $JobFile -PathType Leaf)) {
    Write-Warning "There is no job file $JobFile. 'harness adopt --instance-id $InstanceId' writes one."
    exit 2
}
if (-not (Get-Command -Name 'harness' -CommandType Application -ErrorAction SilentlyContinue)) {
    Write-Warning 'The harness is not on PATH. README.md says how to install it.'
    exit 127
}

# PowerShell before 7.3 drops a backslash in front of the closing quote of an argument with blanks: C:\my models\
$LocalPath = $LocalPath.TrimEnd('\')
if ($LocalPath -match '^[A-Za-z]:$') {
    $LocalPath = $LocalPath + '/'
}

[string[]] $more = @()
if ($Key) { $more += '--key', $Key }
if ($User) { $more += '--user', $User }
if ($Over) { $more += '--over', $Over }
$global:LASTEXITCODE = 127
harness download --instance-id $InstanceId --port $Port --ssh-host $SshHost --remote-path $RemotePath --local-path $LocalPath @more
if ($LASTEXITCODE -ne 0) {
    Write-Warning "The model is not verified at home. Instance $InstanceId is kept; run this script again."
    exit $LASTEXITCODE
}

if ($PSCmdlet.ShouldProcess("instance $InstanceId", 'Destroy: its disk and everything on it are deleted')) {
    [string[]] $expected = @()
    if ($JobFile) { $expected += '--job-file', $JobFile, '--local-path', $LocalPath }
    $global:LASTEXITCODE = 127
    harness destroy --instance-id $InstanceId @expected
    if (($LASTEXITCODE -eq 5) -and (-not $JobFile)) {
        Write-Warning "An instance that was rented by hand is destroyed only with -JobFile FILE, which says what its training should have been."
        Write-Warning "'harness adopt --instance-id $InstanceId' writes one; then run this script again with it: what is home is not fetched again."
    }
    exit $LASTEXITCODE
}

Write-Warning "Instance $InstanceId is kept, and it bills on. To end it, run this script again."
exit 0
